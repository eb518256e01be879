// Package channel decides which value of a setting counts on a device: of
// those that its channels make, the first of
//
//  1. a policy of the server,
//  2. drop-in files, of which a later name goes before an earlier one,
//  3. the environment the agent was started with,
//  4. what was said with "interdict-agent set",
//  5. the server's default, and without a server this build's.
//
// Each setting is settled by itself, and nothing but what the channels say
// now counts: a channel that ceases to make a setting leaves it to the next in
// line, as if it had never made it.
//
// It is pure. The drop-in files are read by the room below.
package channel

import (
	"fmt"
	"slices"
	"strings"

	"interdict/internal/bundle"
	"interdict/internal/fleet"
)

// File is what one drop-in file says of settings.
type File struct {
	// Path is where it is. The last element of it orders files.
	Path string
	// Settings are canonical values by the names of settings.
	Settings map[string]string
}

// Said is what all channels of a device say. Values are canonical.
type Said struct {
	Server      Server
	Files       []File
	Environment map[string]string
	Local       map[string]string
}

// Value is the value of a setting that counts, and where it comes from.
type Value struct {
	Setting string        `json:"setting"`
	Value   string        `json:"value"`
	Channel fleet.Channel `json:"channel"`
	// Source is the policy's id or the file's path; empty for the others.
	Source string `json:"source,omitempty"`
}

// Policy returns the id of the policy that the value comes from, if it comes
// from one.
func (v *Value) Policy() string {
	if v.Channel == fleet.ChannelServer {
		return v.Source
	}
	return ""
}

// Effective is what counts on a device.
type Effective struct {
	Settings fleet.Settings
	// Values has one value for each of [fleet.Definitions], in that order.
	Values []Value
}

// Of returns the value of a setting; zero for one that there is not.
func (e *Effective) Of(setting string) Value {
	for _, v := range e.Values {
		if v.Setting == setting {
			return v
		}
	}
	return Value{}
}

// Merge settles every setting. The result does not depend on the order of the
// files.
func Merge(s Said) Effective {
	files := slices.SortedFunc(slices.Values(s.Files), func(a, b File) int { return compareNames(b.Path, a.Path) })
	e := Effective{Values: make([]Value, 0, len(fleet.Definitions()))}
	for _, d := range fleet.Definitions() {
		v := s.value(&d, files)
		// A value that is not one cannot come here, see Server and the
		// readers of the other channels; the default then stands.
		if err := d.Set(&e.Settings, v.Value); err != nil {
			v = Value{Setting: d.Name, Value: d.Default, Channel: fleet.ChannelDefault}
			_ = d.Set(&e.Settings, v.Value)
		}
		e.Values = append(e.Values, v)
	}
	return e
}

// value settles one setting. The files are sorted, the strongest first.
func (s *Said) value(d *fleet.Definition, files []File) Value {
	if made, ok := s.Server.policies[d.Name]; ok {
		return Value{d.Name, made.value, fleet.ChannelServer, made.policy}
	}
	for i := range files {
		if value, ok := files[i].Settings[d.Name]; ok {
			return Value{d.Name, value, fleet.ChannelFile, files[i].Path}
		}
	}
	if value, ok := s.Environment[d.Name]; ok {
		return Value{d.Name, value, fleet.ChannelEnvironment, ""}
	}
	if value, ok := s.Local[d.Name]; ok {
		return Value{d.Name, value, fleet.ChannelLocal, ""}
	}
	if value, ok := s.Server.defaults[d.Name]; ok {
		return Value{d.Name, value, fleet.ChannelDefault, ""}
	}
	return Value{d.Name, d.Default, fleet.ChannelDefault, ""}
}

// compareNames orders files by their names, and by their paths where those
// are the same.
func compareNames(a, b string) int {
	if c := strings.Compare(baseName(a), baseName(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func baseName(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// Server is what a bundle says of settings. The zero value says nothing.
type Server struct {
	policies map[string]made
	defaults map[string]string
	unknown  []Value
}

type made struct{ value, policy string }

// FromBundle reads the settings of a bundle. One that no policy makes is the
// server's default, which goes before nothing but ours. A known setting with a
// value that cannot be understood is an error, since the device would not do
// what its administrator sees.
func FromBundle(set bundle.Set) (Server, error) {
	s := Server{policies: make(map[string]made), defaults: make(map[string]string)}
	for r := range set.OfKind(bundle.KindSetting) {
		if r.Err != nil {
			return Server{}, fmt.Errorf("reading the server's settings: %w", r.Err)
		}
		if err := s.add(&r.Record); err != nil {
			return Server{}, err
		}
	}
	return s, nil
}

func (s *Server) add(r *bundle.Record) error {
	d, known := define(r.Key)
	if !known {
		if r.Origin != "" {
			s.unknown = append(s.unknown, Value{r.Key, r.Value, fleet.ChannelServer, r.Origin})
		}
		return nil
	}
	value := r.Value
	if value != "" || d.Default != "" {
		var err error
		if value, err = d.Parse(value); err != nil {
			return fmt.Errorf("setting %s has the unknown value %q: it %w", r.Key, r.Value, err)
		}
	}
	if r.Origin == "" {
		s.defaults[r.Key] = value
	} else {
		s.policies[r.Key] = made{value, r.Origin}
	}
	return nil
}

// Unknown returns the settings that policies make and this build does not
// know: they come from a newer server.
func (s *Server) Unknown() []Value { return s.unknown }
