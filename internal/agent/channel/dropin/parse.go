package dropin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"interdict/internal/agent/channel"
	"interdict/internal/bundle"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

const (
	// maxFile bounds a file in bytes: some ten thousand indicators.
	maxFile = 1 << 20
	// maxDepth bounds how deep the parts of a file are nested. What is
	// written here needs six.
	maxDepth = 32
)

// File is what one drop-in file says.
type File struct {
	// Path is where it is.
	Path string
	// Settings are canonical values by the names of settings.
	Settings map[string]string
	// Indicators have canonical values and ids of the form
	// "file:NAME:TYPE:VALUE".
	Indicators []indicator.Indicator
}

// FileError is why a file was not taken.
type FileError struct {
	Path string
	// Line and Column are where it is, from 1 on; 0 for the file as a whole.
	Line, Column int
	// Text says what is wrong, Hint what to do about it.
	Text, Hint string
}

// Error returns the place and the fault on one line.
func (f *FileError) Error() string {
	if f.Line == 0 {
		return f.Path + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.Path, f.Line, f.Column, f.Text)
}

// fault is a fault at a token, without its path; a nil token means the whole
// file.
func faultAt(at *token.Token, format string, args ...any) *FileError {
	f := &FileError{Text: fmt.Sprintf(format, args...)}
	if at != nil && at.Position != nil {
		f.Line, f.Column = at.Position.Line, at.Position.Column
	}
	return f
}

// hint adds what to do and returns the same fault.
func (f *FileError) hint(format string, args ...any) *FileError {
	f.Hint = fmt.Sprintf(format, args...)
	return f
}

// Parse reads the content of the file at a path. It is strict: there is
// nothing in a file that it ignores. The error is a *FileError, the first one
// there is.
func Parse(path string, content []byte, protected *indicator.Protected) (File, error) {
	f := File{Path: path, Settings: make(map[string]string)}
	if fault := f.read(content, protected); fault != nil {
		fault.Path = path
		if fault.Hint == "" {
			fault.Hint = "mend the line; what the file said before stays in force until then"
		}
		return File{}, fault
	}
	return f, nil
}

func (f *File) read(content []byte, protected *indicator.Protected) *FileError {
	if len(content) > maxFile {
		return faultAt(nil, "it is larger than %d KiB", maxFile>>10).hint("spread it over several files")
	}
	if tooDeep(content) {
		return faultAt(nil, "it is nested more than %d deep", maxDepth)
	}
	doc, err := parser.ParseBytes(content, 0)
	if err != nil {
		return syntaxFault(err)
	}
	switch len(doc.Docs) {
	case 0:
		return nil
	case 1:
	default:
		return faultAt(doc.Docs[1].GetToken(), "there is a second document").hint("write one document to a file")
	}
	if body := doc.Docs[0].Body; body == nil || body.Type() == ast.NullType || body.Type() == ast.CommentType {
		return nil
	}
	return fields(doc.Docs[0].Body, "the file", map[string]reader{
		"settings":   f.readSettings,
		"indicators": func(n ast.Node) *FileError { return f.readIndicators(n, protected) },
	})
}

// tooDeep reports whether reading the content could nest too deep: the parser
// calls itself for every level. Indentation bounds the levels of the block
// style; brackets within texts are counted too, which people do not write that
// many of.
func tooDeep(content []byte) bool {
	brackets, line, indent := 0, 0, true
	for _, c := range content {
		switch c {
		case '[', '{':
			brackets++
		case ']', '}':
			brackets = max(0, brackets-1)
		case '\n':
			line, indent = 0, true
			continue
		}
		// "- - - a" and "? ? a" nest on one line.
		indent = indent && (c == ' ' || c == '-' || c == '?')
		if indent {
			line++
		}
		if brackets > maxDepth || line > 4*maxDepth {
			return true
		}
	}
	return false
}

// syntaxFault is what the parser says, at the place it says it of.
func syntaxFault(err error) *FileError {
	if at, ok := errors.AsType[yaml.Error](err); ok {
		return faultAt(at.GetToken(), "it is not YAML: %s", at.GetMessage())
	}
	return faultAt(nil, "it is not YAML: %v", err)
}

// reader reads the value of a key.
type reader func(ast.Node) *FileError

// fields reads a mapping by the readers of its keys. Any other key is a
// fault.
func fields(n ast.Node, what string, readers map[string]reader) *FileError {
	return entries(n, what, func(key *token.Token, value ast.Node) *FileError {
		read, ok := readers[key.Value]
		if !ok {
			known := make([]string, 0, len(readers))
			for name := range readers {
				known = append(known, name)
			}
			slices.Sort(known)
			return faultAt(key, "unknown key %q", key.Value).hint("%s may have %s", what, strings.Join(known, ", "))
		}
		return read(value)
	})
}

// entries calls read for each entry of a mapping, up to the first fault.
func entries(n ast.Node, what string, read func(key *token.Token, value ast.Node) *FileError) *FileError {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		return faultAt(n.GetToken(), "%s must be a list of NAME: VALUE", what)
	}
	seen := make(map[string]bool, len(m.Values))
	for _, entry := range m.Values {
		key, fault := scalar(entry.Key)
		if fault != nil {
			return fault
		}
		if seen[key.Value] {
			return faultAt(key, "%q is there twice", key.Value)
		}
		seen[key.Value] = true
		if fault := read(key, entry.Value); fault != nil {
			return fault
		}
	}
	return nil
}

// elements calls read for each element of a list, up to the first fault.
func elements(n ast.Node, what string, read reader) *FileError {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return faultAt(n.GetToken(), "%s must be a list, each of its lines with a dash", what)
	}
	for _, value := range list.Values {
		if fault := read(value); fault != nil {
			return fault
		}
	}
	return nil
}

// scalar returns the token of a single value, as it is written: a setting that
// is "off" is no truth value here. Anchors, aliases, merges and tags are not
// taken: nothing in these files needs them.
func scalar(n ast.Node) (*token.Token, *FileError) {
	switch n := n.(type) {
	case *ast.StringNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken(), nil
	case *ast.LiteralNode:
		return n.Value.GetToken(), nil
	case *ast.NullNode:
		return nil, faultAt(n.GetToken(), "the value is missing").hint(`leave the line out, or write "" for an empty text`)
	default:
		return nil, faultAt(n.GetToken(), "there must be a single value here")
	}
}

// word reads a single value into dst.
func word[S ~string](dst *S) reader {
	return func(n ast.Node) *FileError {
		t, fault := scalar(n)
		if fault == nil {
			*dst = S(t.Value)
		}
		return fault
	}
}

// words reads a list of single values into dst.
func words[S ~string](what string, dst *[]S) reader {
	return func(n ast.Node) *FileError {
		return elements(n, what, func(n ast.Node) *FileError {
			var value S
			fault := word(&value)(n)
			*dst = append(*dst, value)
			return fault
		})
	}
}

func (f *File) readSettings(n ast.Node) *FileError {
	return entries(n, "settings", func(key *token.Token, value ast.Node) *FileError {
		d, ok := fleet.Define(key.Value)
		if !ok || d.Name != key.Value {
			return unknownSetting(key)
		}
		t, fault := scalar(value)
		if fault != nil {
			return fault
		}
		canonical, err := d.Parse(t.Value)
		if err != nil {
			return faultAt(t, "%s %v, not %.80q", d.Name, err, t.Value)
		}
		f.Settings[d.Name] = canonical
		return nil
	})
}

func unknownSetting(key *token.Token) *FileError {
	fault := faultAt(key, "unknown setting %q", key.Value)
	if near := channel.Near(key.Value); len(near) > 0 {
		return fault.hint("did you mean %s?", near[0])
	}
	return fault.hint("the settings are listed by: interdict-agent set")
}

func (f *File) readIndicators(n ast.Node, protected *indicator.Protected) *FileError {
	seen := make(map[string]bool)
	return elements(n, "indicators", func(n ast.Node) *FileError {
		i, at, fault := readIndicator(n)
		if fault != nil {
			return fault
		}
		// One whose time is up does not count, and is no reason to refuse
		// the file from then on.
		i, faults := indicator.Validate(i, time.Time{})
		if len(faults) > 0 {
			return faultAt(at.of(faults[0].Name), "%s %s", faults[0].Name, faults[0].Rule)
		}
		if err := protected.Check(&i); err != nil {
			return faultAt(at.of("value"), "%v", err)
		}
		i.ID = "file:" + baseName(f.Path) + ":" + string(i.Type) + ":" + i.Value
		if seen[i.ID] {
			return faultAt(at.of("value"), "%s %s is there twice", i.Type, i.Value)
		}
		seen[i.ID] = true
		// A record is bounded. What is too long for one must not stand in the
		// way of everything else that is to be in force.
		if _, err := bundle.NewSet(slices.Values([]bundle.Record{bundle.Indicator(i)})); err != nil {
			return faultAt(at.begin, "it says too much: %v", err).hint("name groups of users instead of users")
		}
		f.Indicators = append(f.Indicators, i)
		return nil
	})
}

// places are where the fields of an indicator stand, and where it begins.
type places struct {
	fields map[string]*token.Token
	begin  *token.Token
}

// of returns where the field of a fault stands, or else the indicator.
func (p places) of(field string) *token.Token {
	field, _, _ = strings.Cut(field, ".")
	if t := p.fields[field]; t != nil {
		return t
	}
	return p.begin
}

// readIndicator reads one indicator as it is written.
func readIndicator(n ast.Node) (indicator.Indicator, places, *FileError) {
	i := indicator.Indicator{Source: indicator.SourceLocal}
	at := places{fields: make(map[string]*token.Token), begin: n.GetToken()}
	readers := map[string]reader{
		"type":           word(&i.Type),
		"value":          word(&i.Value),
		"action":         word(&i.Action),
		"severity":       word(&i.Severity),
		"description":    word(&i.Description),
		"expires_at":     moment(&i.ExpiresAt),
		"generate_alert": truth(&i.GenerateAlert),
		"scope":          func(n ast.Node) *FileError { return readScope(n, &i.Scope) },
	}
	for name, read := range readers {
		readers[name] = func(n ast.Node) *FileError {
			at.fields[name] = n.GetToken()
			return read(n)
		}
	}
	fault := fields(n, "an indicator", readers)
	if fault != nil {
		return i, at, fault
	}
	for _, name := range []string{"type", "value", "action"} {
		if at.fields[name] == nil {
			return i, at, faultAt(at.begin, "an indicator has no %s", name).hint("each needs a type, a value and an action")
		}
	}
	return i, at, nil
}

func readScope(n ast.Node, p *indicator.Profile) *FileError {
	return fields(n, "a scope", map[string]reader{
		"include_users":       words("include_users", &p.IncludeUsers),
		"exclude_users":       words("exclude_users", &p.ExcludeUsers),
		"include_user_groups": words("include_user_groups", &p.IncludeUserGroups),
		"exclude_user_groups": words("exclude_user_groups", &p.ExcludeUserGroups),
		"windows": func(n ast.Node) *FileError {
			return elements(n, "windows", func(n ast.Node) *FileError {
				var w indicator.Window
				fault := fields(n, "a window", map[string]reader{
					"days": words("days", &w.Days), "from": word(&w.From), "to": word(&w.To), "zone": word(&w.Zone),
				})
				if fault != nil {
					return fault
				}
				if err := w.Check(); err != nil {
					return faultAt(n.GetToken(), "%v", err)
				}
				p.Windows = append(p.Windows, w)
				return nil
			})
		},
	})
}

// moment reads a time, or a day, which means its beginning in UTC.
func moment(dst *time.Time) reader {
	return func(n ast.Node) *FileError {
		t, fault := scalar(n)
		if fault != nil {
			return fault
		}
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if at, err := time.Parse(layout, t.Value); err == nil {
				*dst = at.UTC()
				return nil
			}
		}
		return faultAt(t, "%.80q is no time such as 2030-01-31 or 2030-01-31T18:00:00Z", t.Value)
	}
}

func truth(dst *bool) reader {
	return func(n ast.Node) *FileError {
		b, ok := n.(*ast.BoolNode)
		if !ok {
			return faultAt(n.GetToken(), "there must be true or false here")
		}
		*dst = b.Value
		return nil
	}
}
