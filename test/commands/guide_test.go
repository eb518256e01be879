package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"interdict/internal/agent/channel/dropin"
	"interdict/internal/indicator"
)

func TestTheFileThatTheGuideHasAnsibleWriteIsRead(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(guide), "In Ansible:\n\n```yaml\n")
	text, _, ok := strings.Cut(after, "```\n")
	if !ok {
		t.Fatal("the guide has no task for Ansible")
	}
	var tasks []struct {
		Copy struct {
			Dest    string `yaml:"dest"`
			Mode    string `yaml:"mode"`
			Content string `yaml:"content"`
		} `yaml:"ansible.builtin.copy"`
	}
	if err = yaml.Unmarshal([]byte(text), &tasks); err != nil || len(tasks) != 1 {
		t.Fatalf("the guide has %d tasks: %v", len(tasks), err)
	}
	made := tasks[0].Copy
	file, err := dropin.Parse(made.Dest, []byte(made.Content), indicator.NewProtected())
	if err != nil {
		t.Fatal(err)
	}
	if made.Mode != "0644" || filepath.Ext(made.Dest) != ".yaml" || len(file.Settings) != 2 || len(file.Indicators) != 1 {
		t.Errorf("the task writes %+v, in which there are %d settings and %d indicators", made, len(file.Settings), len(file.Indicators))
	}
}
