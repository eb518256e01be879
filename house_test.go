// Package house_test holds the house to what CONTRIBUTING.md says of its
// packages.
package house_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// Soft limits, in lines: past them a file is two, and a package two nouns.
const (
	maxFile    = 600
	maxPackage = 2600
)

// room is what a package's folder says of itself.
type room struct {
	lines    int
	comments []string
}

func TestPackagesAreCommentedOnceAndStaySmall(t *testing.T) {
	for dir, r := range rooms(t, os.DirFS(".")) {
		if len(r.comments) != 1 {
			t.Errorf("%s: the package is commented in %d files %v, want one", dir, len(r.comments), r.comments)
		}
		if r.lines > maxPackage {
			t.Errorf("%s: %d lines are more than %d: find the two nouns in it", dir, r.lines, maxPackage)
		}
	}
}

// rooms reads every package, its tests left out of the count.
func rooms(t *testing.T, house fs.FS) map[string]*room {
	t.Helper()
	all := make(map[string]*room)
	err := fs.WalkDir(house, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		source, err := fs.ReadFile(house, name)
		if err != nil {
			return err
		}
		lines := bytes.Count(source, []byte("\n"))
		if lines > maxFile {
			t.Errorf("%s: %d lines are more than %d", name, lines, maxFile)
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if all[dir] == nil {
			all[dir] = new(room)
		}
		all[dir].lines += lines
		if file.Doc != nil {
			all[dir].comments = append(all[dir].comments, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no packages were found")
	}
	return all
}
