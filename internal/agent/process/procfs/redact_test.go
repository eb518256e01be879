package procfs

import (
	"strings"
	"testing"
)

func TestCommandLinesAreWithoutSecrets(t *testing.T) {
	const (
		hexKey = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
		base64 = "q83vEjRWeJq83vASNFZ4mrze8BI0VniavN7wEjRWeJo="
		slashy = "q83vEjRW/Jq83vASNF+4mrze8BI0VniavN7w/jRWeJo="
		pem    = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----"
	)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nothing secret", []string{"curl", "-s", "-o", "/tmp/a", "https://a.example/b/c"}, "curl -s -o /tmp/a https://a.example/b/c"},
		{"a header", []string{"curl", "-H", "Authorization: Bearer abc def", "https://a.example"}, "curl -H Authorization: [redacted] https://a.example"},
		{"a header in its option's argument", []string{"curl", "-HX-Api-Key:abc", "-v"}, "curl -HX-Api-Key:[redacted] -v"},
		{"a header after an equals sign", []string{"wget", "--header=Cookie: a=b; c=d", "x"}, "wget --header=Cookie: [redacted] x"},
		{"other keys in headers", []string{"-H", "X-Goog-Key: a b", "-H", "PRIVATE-TOKEN: c"}, "-H X-Goog-Key: [redacted] -H PRIVATE-TOKEN: [redacted]"},
		{"a header that is none", []string{"curl", "-H", "Accept: text/html"}, "curl -H Accept: text/html"},
		{"an option and its value", []string{"app", "--password", "two words", "--verbose"}, "app --password [redacted] --verbose"},
		{"an option with its value", []string{"app", "--db-password=two words", "-v"}, "app --db-password=[redacted] -v"},
		{"an option without a value", []string{"app", "--token", "--verbose", "x"}, "app --token --verbose x"},
		{"two options", []string{"app", "--secret", "a", "--api-key", "b", "c"}, "app --secret [redacted] --api-key [redacted] c"},
		{"a variable", []string{"env", "AWS_SECRET_ACCESS_KEY=abc", "aws", "s3"}, "env AWS_SECRET_ACCESS_KEY=[redacted] aws s3"},
		{"the word key", []string{"app", "--key", "abc", "keyboard=de", "--keymap", "us"}, "app --key [redacted] keyboard=de --keymap us"},
		{"an author", []string{"git", "commit", "--author", "A", "--author=B"}, "git commit --author A --author=B"},
		{"a form", []string{"curl", "-d", "user=u&password=p&x=y"}, "curl -d user=u&password=[redacted]&x=y"},
		{"JSON", []string{"curl", "-d", `{"token": "a b", "n": 1}`}, `curl -d {"token": [redacted], "n": 1}`},
		{"a user and a password", []string{"curl", "-u", "me:pa:ss", "x"}, "curl -u me:[redacted] x"},
		{"a user with a password at once", []string{"curl", "-ume:pass", "--user=me:pass", "--proxy-user", "me:pass"}, "curl -ume:[redacted] --user=me:[redacted] --proxy-user me:[redacted]"},
		{"a user alone", []string{"id", "-u", "me"}, "id -u me"},
		{"-p of ssh", []string{"ssh", "-p", "22", "h"}, "ssh -p 22 h"},
		{"a URL", []string{"curl", "https://me:pass@a.example:8443/b?c=d&e=f#g"}, "curl https://[redacted]@a.example:8443/b?[redacted]#[redacted]"},
		{"a fragment", []string{"x", "https://a.example/#access=1"}, "x https://a.example/#[redacted]"},
		{"a command line in an argument", []string{"sh", "-c", `curl -H "Authorization: Bearer x" --token y -u a:b 'https://h/?q=1' -o f`}, `sh -c curl -H "Authorization: [redacted]" --token [redacted] -u a:[redacted] 'https://h/?[redacted] -o f`},
		{"a bearer", []string{"x", "Bearer abc"}, "x Bearer [redacted]"},
		{"a key in PEM", []string{"x", pem, "y"}, "x [redacted] y"},
		{"half a key in PEM", []string{"x", pem[:30], "y"}, "x [redacted] y"},
		{"hexadecimal digits", []string{"x", hexKey, "/run/" + hexKey + "/a"}, "x [redacted] /run/[redacted]/a"},
		{"base64", []string{"x", base64, slashy}, "x [redacted] [redacted]"},
		{"a long path", []string{"/usr/lib/x86_64-linux-gnu/libexec/SomeApp/Contents/Helper2"}, "/usr/lib/x86_64-linux-gnu/libexec/SomeApp/Contents/Helper2"},
		{"long words", []string{"--enable-features=HardwareMediaKeyHandling-And-Nothing-Else", "x86_64-linux-gnu-gcc-12-something-more"}, "--enable-features=HardwareMediaKeyHandling-And-Nothing-Else x86_64-linux-gnu-gcc-12-something-more"},
		{"a secret at the edge", []string{strings.Repeat("a", commandMax-20), hexKey}, strings.Repeat("a", commandMax-20) + " [redacted]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Join(tt.args, "\x00") + "\x00"
			if got := Command([]byte(args)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What stands where a secret does is never there afterwards, whatever is
// around it.
func FuzzRedact(f *testing.F) {
	f.Add("curl\x00", "\x00https://a.example/?b#c", "two words")
	f.Add("sh\x00-c\x00--password x -u a:b ", " \"'", "x")
	f.Fuzz(func(t *testing.T, before, after, value string) {
		const planted = "zqzqPLANTEDzqzq"
		if strings.Contains(before+after, planted) {
			return
		}
		value = planted + strings.ReplaceAll(value, "\x00", "")
		for _, form := range []string{
			"--password\x00", "--password=", "-H\x00Authorization: Bearer ", "-H\x00X-Api-Key: ", "API_TOKEN=", "--cookie\x00",
		} {
			if got := redact(before + "\x00" + form + value + "\x00" + after); strings.Contains(got, planted) {
				t.Errorf("%q is in %q", planted, got)
			}
		}
	})
}
