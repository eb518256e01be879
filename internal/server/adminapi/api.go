// Package adminapi translates between the admin API and the use cases: REST
// below /api/v1, described by an OpenAPI 3.1 document that is made from the Go
// types, with bearer tokens, problem documents for errors, cursors for lists,
// and ETag with If-Match on what can be edited.
//
// It decides nothing but who may call what: viewers read, operators change
// what devices enforce, administrators change the server and admit devices.
package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"interdict/internal/control"
	"interdict/internal/control/appeal"
	"interdict/internal/control/credential"
	"interdict/internal/control/edit"
	"interdict/internal/control/enrol"
	"interdict/internal/control/groups"
	"interdict/internal/control/history"
	"interdict/internal/control/indicators"
	"interdict/internal/control/inquiry"
	"interdict/internal/control/observation"
	"interdict/internal/control/page"
	"interdict/internal/control/rollout"
	"interdict/internal/control/usage"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/gate"
	"interdict/internal/server/request"
)

// Prefix is the version of the API, in its paths.
const Prefix = "/api/v1"

// DocumentPath is where the API's description is, for everybody.
const DocumentPath = Prefix + "/openapi.json"

// Config is what the API needs; all of it is required.
type Config struct {
	Control      *control.Service
	Credentials  *credential.Service
	Enrolment    *enrol.Service
	Groups       *groups.Service
	History      *history.Service
	Indicators   *indicators.Service
	Observations *observation.Service
	Appeals      *appeal.Service
	Usage        *usage.Service
	Rollouts     *rollout.Service
	Inquiries    *inquiry.Service
	Gate         *gate.Gate
	Logger       *slog.Logger
}

// API serves the admin API.
type API struct {
	control      *control.Service
	credentials  *credential.Service
	enrolment    *enrol.Service
	groups       *groups.Service
	history      *history.Service
	indicators   *indicators.Service
	observations *observation.Service
	appeals      *appeal.Service
	usage        *usage.Service
	rollouts     *rollout.Service
	inquiries    *inquiry.Service

	gate     *gate.Gate
	logger   *slog.Logger
	mux      *http.ServeMux
	huma     huma.API
	document []byte
	handler  http.Handler
}

// New makes the API.
func New(c Config) (*API, error) {
	a := &API{
		control: c.Control, credentials: c.Credentials, enrolment: c.Enrolment, groups: c.Groups, history: c.History, indicators: c.Indicators,
		observations: c.Observations, appeals: c.Appeals, usage: c.Usage, rollouts: c.Rollouts, inquiries: c.Inquiries, gate: c.Gate, logger: c.Logger, mux: http.NewServeMux(),
	}
	a.huma = newHuma(a.mux)
	a.addApps()
	a.addIndicators()
	a.addGroups()
	a.addPolicies()
	a.addDevices()
	a.addTokens()
	a.addSettings()
	a.addObservations()
	a.addRequests()
	a.addBypasses()
	a.addUsage()
	a.addRollouts()
	a.addExplain()
	a.mux.HandleFunc("/", a.unknown)
	document, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		return nil, err
	}
	a.document = append(document, '\n')
	a.handler = a.Require(control.RoleViewer, a.mux)
	return a, nil
}

// ServeHTTP answers any path below Prefix.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == DocumentPath && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/openapi+json")
		// The client may be gone; there is nobody left to tell.
		_, _ = w.Write(a.document) //nolint:gosec // G705: it has nothing from the request
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	a.handler.ServeHTTP(w, r)
}

// Document returns the API's description, OpenAPI 3.1 in JSON.
func (a *API) Document() []byte { return a.document }

// newHuma makes an API without routes. Its errors are problem documents, and
// what it does not know in a request is an error.
func newHuma(mux *http.ServeMux) huma.API {
	c := huma.DefaultConfig("Interdict admin API", "1")
	c.Info.Description = "Everything the interdict command does. " +
		"Errors are problem documents (RFC 9457) with a stable code, the fields at fault and a hint. " +
		"Lists are pages: repeat the request with next as the cursor until there is none."
	// No links to schemas in answers, no pages that load scripts.
	c.CreateHooks, c.OpenAPIPath, c.DocsPath, c.SchemasPath = nil, "", "", ""
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{toProblem}
	c.Servers = []*huma.Server{{URL: Prefix}}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[problem.Document]())
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token"},
	}
	c.Security = []map[string][]string{{"token": {}}}
	return huma.NewAPI(c, humago.NewAdapter(mux, Prefix))
}

// schemaName names types in the document.
func schemaName(t reflect.Type, hint string) string {
	named := t
	if named.Kind() == reflect.Pointer {
		named = named.Elem()
	}
	switch named {
	case reflect.TypeFor[problem.Document]():
		return "Problem"
	case reflect.TypeFor[event.Change]():
		return "SettingChange"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// route is one operation of the API.
type route struct {
	method, path string
	// id names the operation in generated clients.
	id, summary string
	tag         string
	// need is the least role that may call it.
	need control.Role
	// status is that of success; 0 means 200.
	status int
}

// add makes the API answer a route. The handler gets who asks.
func add[I, O any](a *API, r route, handler func(ctx context.Context, by control.Actor, in *I) (*O, error)) {
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary,
		Tags: []string{r.tag}, DefaultStatus: r.status, Middlewares: huma.Middlewares{a.permit(r)},
	}
	if op.DefaultStatus == 0 {
		op.DefaultStatus = http.StatusOK
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, actor(ctx), in)
		if err != nil {
			return nil, a.fail(ctx, err)
		}
		return out, nil
	})
	for _, s := range a.huma.OpenAPI().Components.Schemas.Map() {
		neverNull(s)
	}
}

// permit lets only those through who may call a route, before anything of the
// request is read.
func (a *API) permit(r route) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		by := actor(ctx.Context())
		if by.Role.Allows(r.need) {
			next(ctx)
			return
		}
		a.refused(ctx.Context(), by, r.method+" "+Prefix+r.path, "the role "+string(r.need)+" is needed")
		req, w := humago.Unwrap(ctx)
		request.Fail(w, req, a.logger, fault.New(fault.Forbidden, "this needs the role %s", r.need).
			WithHint("ask an administrator for a token with this role"))
	}
}

// neverNull says in the document what holds for every list of ours: it may be
// missing, but it is never null.
func neverNull(s *huma.Schema) {
	for _, p := range s.Properties {
		if p.Type == huma.TypeArray {
			p.Nullable = false
		}
	}
}

// failure is an error that huma writes as it is.
type failure struct {
	problem.Document
}

// Error implements error.
func (f *failure) Error() string { return f.Detail }

// GetStatus returns the HTTP status to answer with.
func (f *failure) GetStatus() int { return f.Status }

// ContentType returns the media type to answer with.
func (*failure) ContentType(string) string { return problem.ContentType }

func (a *API) fail(ctx context.Context, err error) error {
	if told, ok := errors.AsType[*failure](err); ok {
		return told
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fault.New(fault.Unavailable, "it took too long").Because(err)
	}
	request.Log(ctx, a.logger, err)
	return &failure{problem.New(err, request.ID(ctx))}
}

// toProblem turns huma's own errors, which say that a request has not the
// form the document describes, into problems like all others.
func toProblem(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	d := problem.Document{
		Title: m.Title, Status: m.Status, Detail: "the request is not valid", Code: problem.Code(m.Status),
		RequestID: request.ID(ctx.Context()),
	}
	if len(m.Errors) == 0 {
		d.Detail, d.Hint = m.Detail, "the form of every request is described in "+DocumentPath
	}
	for _, e := range m.Errors {
		d.Errors = append(d.Errors, toField(e))
	}
	return d, nil
}

// toField says which field breaks which rule.
func toField(e *huma.ErrorDetail) fault.Field {
	name := e.Location
	for _, in := range []string{"body.", "query.", "path.", "header."} {
		name = strings.TrimPrefix(name, in)
	}
	rule := e.Message
	switch {
	case rule == "unexpected property":
		rule = "is not a known field"
	case rule == "unknown query parameter":
		rule = "is not a known parameter"
	case strings.HasPrefix(rule, "expected required property "):
		missing, _, _ := strings.Cut(strings.TrimPrefix(rule, "expected required property "), " ")
		name = strings.TrimPrefix(name+"."+missing, "body.")
		rule = "is missing"
	case strings.HasPrefix(rule, "required "):
		rule = "is missing"
	case strings.HasPrefix(rule, "expected value to be one of "):
		rule = "must be one of " + strings.Trim(strings.TrimPrefix(rule, "expected value to be one of "), `"`)
	case strings.HasPrefix(rule, "expected string to be "):
		rule = "must be " + strings.TrimPrefix(rule, "expected string to be ")
	case strings.HasPrefix(rule, "expected length "):
		rule = "must have a length " + strings.TrimPrefix(rule, "expected length ")
	case strings.HasPrefix(rule, "expected "):
		rule = "must be of type " + strings.TrimPrefix(rule, "expected ")
	case strings.HasPrefix(rule, "invalid ") && name != "body":
		rule = "is no valid " + strings.TrimPrefix(rule, "invalid ")
	case name == "body":
		rule = "is not JSON: " + rule
	}
	return fault.Field{Name: name, Rule: rule}
}

// unknown answers paths that are no route, and methods that a route does not
// have.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		probe := &http.Request{Method: m, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(probe); pattern != "/" {
			allowed = append(allowed, m)
		}
	}
	d := problem.New(fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path).
		WithHint("all paths are in %s", DocumentPath), request.ID(r.Context()))
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		d.Status, d.Title = http.StatusMethodNotAllowed, http.StatusText(http.StatusMethodNotAllowed)
		d.Code, d.Detail = fault.Invalid, "the method "+r.Method+" does not exist here"
	}
	d.Write(w)
}

// PageInput are the parameters of every list. It is exported, like the other
// inputs that are embedded, because huma does not look into embedded fields
// that are not.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"How many items at most; 100 if missing"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next of the page before"`
}

func (p PageInput) query() page.Query {
	return page.Query{Limit: p.Limit, Cursor: p.Cursor}
}

// pageOutput is one page of a list.
type pageOutput[T any] struct {
	Body page.Page[T]
}

func pageOf[T any](p page.Page[T], err error) (*pageOutput[T], error) {
	if p.Items == nil {
		p.Items = []T{}
	}
	return &pageOutput[T]{Body: p}, err
}

// RefInput names one thing by its id or, where it has one, its name.
type RefInput struct {
	ID string `path:"id" maxLength:"512" doc:"Id or name"`
}

// bodyOutput is an answer without a version.
type bodyOutput[T any] struct {
	Body T
}

// versionedOutput is an answer whose ETag is the version to edit.
type versionedOutput[T any] struct {
	ETag string `header:"ETag" doc:"The version, for If-Match"`
	Body T
}

func versioned[T any](body T, version uint64) *versionedOutput[T] {
	return &versionedOutput[T]{ETag: strconv.Quote(strconv.FormatUint(version, 10)), Body: body}
}

// MatchInput says which version an edit is of, if the caller cares.
type MatchInput struct {
	IfMatch string `header:"If-Match" maxLength:"64" doc:"ETag of the version that is edited; the edit fails with 412 if somebody else changed it since"`
}

// version returns the version to match.
func (m MatchInput) version() (uint64, error) {
	if m.IfMatch == "" || m.IfMatch == "*" {
		return edit.AnyVersion, nil
	}
	text, quoted := strings.CutPrefix(m.IfMatch, `"`)
	text, closed := strings.CutSuffix(text, `"`)
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || !quoted || !closed || v == edit.AnyVersion {
		var fs fault.Fields
		fs.Add("If-Match", "must be an ETag of this resource, or *")
		return 0, fs.Err("the request is not valid")
	}
	return v, nil
}

// required is version for edits that replace the whole: not saying which
// version is replaced is an error (RFC 6585 section 3), because the caller
// would undo what it has not seen.
func (m MatchInput) required(ctx context.Context) (uint64, error) {
	if m.IfMatch != "" {
		return m.version()
	}
	d := problem.New(fault.New(fault.Invalid, "the header If-Match is missing").
		WithHint("send the ETag of the version you edited, or * to replace any"), request.ID(ctx))
	d.Status, d.Title = http.StatusPreconditionRequired, http.StatusText(http.StatusPreconditionRequired)
	return 0, &failure{d}
}
