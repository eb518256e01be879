package store

// Store is the database of a server.
type Store struct{}
