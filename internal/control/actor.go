package control

// ActorKind says what kind of caller an Actor is.
type ActorKind string

// The kinds of actors.
const (
	ActorToken  ActorKind = "token"
	ActorDevice ActorKind = "device"
	ActorSystem ActorKind = "system"
	// ActorUnknown is a caller who could not show who they are.
	ActorUnknown ActorKind = "unknown"
)

// Role says what an actor may do. The API checks it, by Allows.
type Role string

// The roles, each may do what those before it may.
const (
	RoleViewer        Role = "viewer"
	RoleOperator      Role = "operator"
	RoleAdministrator Role = "administrator"
)

// Valid reports whether the role is one of those above.
func (r Role) Valid() bool { return r.rank() > 0 }

// Allows reports whether the role includes need.
func (r Role) Allows(need Role) bool { return r.rank() > 0 && r.rank() >= need.rank() }

func (r Role) rank() int {
	switch r {
	case RoleViewer:
		return 1
	case RoleOperator:
		return 2
	case RoleAdministrator:
		return 3
	default:
		return 0
	}
}

// Actor is who asks for something, as the audit log names them.
type Actor struct {
	Kind ActorKind
	ID   string
	Name string
	Role Role
	// Source is where the request came from: an address, or the name of a
	// part of the server.
	Source string
}

// System is a part of the server itself.
func System(part string) Actor {
	return Actor{Kind: ActorSystem, Name: "interdict", Role: RoleAdministrator, Source: part}
}
