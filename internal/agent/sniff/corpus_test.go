package sniff

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is found into the cases under testdata")

// corpusCase is one file under testdata.
type corpusCase struct {
	kind    string
	packets []corpusPacket
	want    string
}

type corpusPacket struct {
	seq  uint32
	data []byte
}

// kinds maps the name of an input section to what is found in its packets,
// one line each.
func kinds() map[string]func([]corpusPacket) []string {
	return map[string]func([]corpusPacket) []string{
		"tcp": func(packets []corpusPacket) (lines []string) {
			r := NewTCP()
			for _, p := range packets {
				lines = append(lines, describe(r.Add(p.seq, p.data)))
			}
			return lines
		},
		"quic": func(packets []corpusPacket) (lines []string) {
			r := NewQUIC()
			for _, p := range packets {
				lines = append(lines, describe(r.Add(p.data)))
			}
			return lines
		},
		"dns": func(packets []corpusPacket) (lines []string) {
			for _, p := range packets {
				lines = append(lines, describeAnswer(p.data))
			}
			return lines
		},
		"packet": func(packets []corpusPacket) (lines []string) {
			for _, p := range packets {
				lines = append(lines, describePacket(p.data))
			}
			return lines
		},
	}
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, file := range corpusFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			archive, c := readCase(t, file)
			got := strings.Join(kinds()[c.kind](c.packets), "\n") + "\n"
			if *update {
				writeWant(t, file, archive, got)
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: found (-want +got):\n%s", file, diff)
			}
		})
	}
}

func corpusFiles(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("listing the cases: %d found, error %v", len(files), err)
	}
	return files
}

func readCase(tb testing.TB, file string) (*txtar.Archive, corpusCase) {
	tb.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var c corpusCase
	for _, f := range archive.Files {
		if f.Name == "want" {
			c.want = string(f.Data)
			continue
		}
		c.kind = f.Name
		if c.packets, err = parsePackets(f.Data); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
	}
	if kinds()[c.kind] == nil || len(c.packets) == 0 {
		tb.Fatalf("%s: has no section that is an input with packets", file)
	}
	return archive, c
}

func writeWant(t *testing.T, file string, archive *txtar.Archive, want string) {
	t.Helper()
	files := archive.Files[:0]
	for _, f := range archive.Files {
		if f.Name != "want" {
			files = append(files, f)
		}
	}
	archive.Files = append(files, txtar.File{Name: "want", Data: []byte(want)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// parsePackets reads an input section as testdata/README.md describes it.
func parsePackets(section []byte) ([]corpusPacket, error) {
	var packets []corpusPacket
	var next uint32
	for block := range strings.SplitSeq(strings.TrimSpace(string(section)), "\n\n") {
		p := corpusPacket{seq: next}
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			if seq, ok := strings.CutPrefix(line, "seq "); ok {
				n, err := strconv.ParseUint(seq, 10, 32)
				if err != nil {
					return nil, fmt.Errorf("reading %q: %w", line, err)
				}
				p.seq = uint32(n)
				continue
			}
			if strings.HasPrefix(line, "#") {
				continue
			}
			b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
			if err != nil {
				return nil, fmt.Errorf("reading %q: %w", line, err)
			}
			p.data = append(p.data, b...)
		}
		next = p.seq + uint32(len(p.data))
		packets = append(packets, p)
	}
	return packets, nil
}

// formatCase is the opposite of readCase, without want.
func formatCase(comment, kind string, packets [][]byte) []byte {
	const perLine = 48
	var b bytes.Buffer
	for i, p := range packets {
		if i > 0 {
			b.WriteByte('\n')
		}
		for len(p) > 0 {
			n := min(perLine, len(p))
			fmt.Fprintf(&b, "%x\n", p[:n])
			p = p[n:]
		}
	}
	return txtar.Format(&txtar.Archive{
		Comment: []byte(comment + "\n"),
		Files:   []txtar.File{{Name: kind, Data: b.Bytes()}},
	})
}

// describe writes a finding down, what is not set left out.
func describe(f Finding) string {
	parts := []string{f.State.String()}
	add := func(set bool, format string, value any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add(f.Host != "", "%s", f.Host)
	add(f.Evidence != "", "by=%s", f.Evidence)
	add(f.Addr.IsValid(), "addr=%s", f.Addr)
	add(f.Port != 0, "port=%d", f.Port)
	add(f.Path != "", "path=%s", f.Path)
	add(f.ECH, "ech=%t", f.ECH)
	add(f.Reason != ReasonNone, "reason=%s", f.Reason)
	return strings.Join(parts, " ")
}

func describeAnswer(msg []byte) string {
	a, err := ParseDNSAnswer(msg)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s type=%d rcode=%d addrs=%v chain=%v ttl=%v ech=%t",
		a.Name, a.Type, a.RCode, a.Addrs, a.Chain, a.TTL, a.HasECH)
}

func describePacket(data []byte) string {
	p, err := ParsePacket(data)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("protocol=%d %s > %s seq=%d flags=%#02x headers=%d+%d payload=%x",
		p.Protocol, p.Source, p.Dest, p.Seq, uint8(p.Flags), p.IPHeader, p.Header-p.IPHeader, p.Payload)
}
