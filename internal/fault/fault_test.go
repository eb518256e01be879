package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"interdict/internal/fault"
)

func TestFaultsOfAllFieldsAreToldAtOnce(t *testing.T) {
	var fs fault.Fields
	if err := fs.Err("creating the indicator"); err != nil {
		t.Fatalf("got %v without faults, want nil", err)
	}
	fs.Add("value", "must be a host name, not %q", "a b")
	fs.Add("action", "must be one of allow, audit, warn, block")
	err := fs.Err("the indicator is not valid")
	want := `the indicator is not valid: value must be a host name, not "a b"; action must be one of allow, audit, warn, block`
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestTheCodeSurvivesWrapping(t *testing.T) {
	err := fmt.Errorf("tagging: %w", fault.New(fault.NotFound, "no app %q", "x").Because(errors.New("sql: no rows")))
	if got := fault.CodeOf(err); got != fault.NotFound {
		t.Errorf("got %q, want not_found", got)
	}
	if got := fault.CodeOf(errors.New("disk")); got != fault.Internal {
		t.Errorf("got %q for another error, want internal", got)
	}
	if got := fault.CodeOf(nil); got != "" {
		t.Errorf("got %q for nil, want nothing", got)
	}
}
