// Package version decides what this build is called.
package version

import "runtime/debug"

// Version is set by the linker for a build from the Makefile.
var Version string

// String is the version: the one the build was given, or the module's, or
// the commit's, or "dev".
func String() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return "dev"
}
