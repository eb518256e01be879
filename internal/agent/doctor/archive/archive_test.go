package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"interdict/internal/agent"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/doctor/archive"
	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/event"
)

// unpack returns the files of an archive.
func unpack(t *testing.T, content []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for in := tar.NewReader(zipped); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", h.Name, h.Mode)
		}
		files[strings.TrimPrefix(h.Name, "interdict-doctor/")] = string(b)
	}
}

// eventLog writes a log with one event, and returns its directory.
func eventLog(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	logDir := filepath.Join(root, "events")
	j, err := journal.Open(journal.Config{
		LogDir: logDir, SpoolDir: filepath.Join(root, "spool"), Health: &health.Set{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	j.Record(t.Context(), event.Event{
		EventID: event.IDBlocked, Action: event.ActionBlocked, Destination: event.Destination{Host: "tunes.example"},
		Process: event.Process{Path: "/usr/bin/curl", Command: "curl -u ann:hunter2 https://tunes.example"},
	})
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return logDir
}

func TestTheArchiveHelpsAndHasNoSecrets(t *testing.T) {
	secrets := []string{
		"hunter2", "idt1_aHR0cHM6Ly9pbnRlcmRpY3Q", "MIGHAgEAMBMGByqGSM49", "s3cr3t-value", "eyJhbGciOi",
	}
	var out bytes.Buffer
	err := archive.Write(t.Context(), &out, archive.Config{
		Report: doctor.Report{Schema: doctor.Schema, Time: time.Unix(1, 0), Agent: "1.2.3"}, Text: []byte("ok  kernel\n"),
		Status: &agent.Status{Server: "https://interdict.example"}, Events: eventLog(t),
		Root: fstest.MapFS{"etc/resolv.conf": {Data: []byte("nameserver 192.0.2.53\n")}},
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			if name == "journalctl" {
				return []byte("enrolled with idt1_aHR0cHM6Ly9pbnRlcmRpY3Q now\n-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n" +
					`{"token": "s3cr3t-value"}` + "\nAuthorization: Bearer eyJhbGciOi\nthe rest stays\n"), nil
			}
			return []byte(name + " " + strings.Join(args, " ") + "\n"), errors.New("exit status 1")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, out.Bytes())
	readme := files["README.txt"]
	for file, says := range map[string]string{
		"README.txt": "Hand it only to somebody", "doctor.txt": "ok  kernel", "doctor.json": `"schema": 2`, "status.json": "interdict.example",
		"events.jsonl": "tunes.example", "rules.txt": "nft list table inet interdict\nexit status 1", "addresses.txt": "ip -d address",
		"routes.txt": "ip route", "routing-rules.txt": "ip rule", "kernel.txt": "uname", "journal.txt": "the rest stays",
		"resolv.conf": "192.0.2.53", "os-release": "file does not exist", "queues.txt": "file does not exist",
	} {
		if !strings.Contains(files[file], says) {
			t.Errorf("%s is %q, want it to say %q", file, files[file], says)
		}
		if file != "README.txt" && !strings.Contains(readme, file) {
			t.Errorf("the README does not know %s", file)
		}
		for _, secret := range secrets {
			if strings.Contains(files[file], secret) {
				t.Errorf("%s has %q in it", file, secret)
			}
		}
		delete(files, file)
	}
	if len(files) > 0 {
		t.Errorf("there are more files: %v", files)
	}
}

func TestALongFileIsCutAtItsBeginning(t *testing.T) {
	var out bytes.Buffer
	err := archive.Write(t.Context(), &out, archive.Config{
		Events: t.TempDir(), Root: fstest.MapFS{},
		Run: func(_ context.Context, name string, _ ...string) ([]byte, error) {
			if name != "journalctl" {
				return nil, nil
			}
			return append(bytes.Repeat([]byte("x"), 2<<20), "the end"...), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := unpack(t, out.Bytes())["journal.txt"]; !strings.HasPrefix(got, "(the beginning is left out)") || !strings.HasSuffix(got, "the end") || len(got) > 1<<20+100 {
		t.Errorf("got %d bytes, %.40q to %q", len(got), got, got[max(0, len(got)-40):])
	}
}
