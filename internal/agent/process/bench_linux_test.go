package process

import (
	"net"
	"testing"
)

func BenchmarkFind(b *testing.B) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	for _, bb := range []struct {
		name string
		Config
	}{{"BPF", Config{}}, {"scan", Config{WithoutBPF: true}}} {
		r := newResolver(b, bb.Config)
		c, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		f := Flow{Protocol: 6, Local: c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
		b.Run(bb.name+"/warm", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Find(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bb.name+"/cold", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.find(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
