package survey

import (
	"io/fs"
	"strconv"
	"strings"

	"interdict/internal/agent/doctor"
)

// programs is what runs, and who has which sockets open.
type programs struct {
	all []doctor.Program
	// owners are the programs that have the sockets asked for open.
	owners map[uint64]doctor.Program
	// namespaces has one program of each network namespace but our own.
	namespaces []doctor.Namespace
}

// findPrograms walks /proc. Programs that end meanwhile are left out, and so
// is what may not be read.
func findPrograms(proc fs.FS, inodes map[uint64]bool) programs {
	found := programs{owners: make(map[uint64]doctor.Program)}
	entries, err := fs.ReadDir(proc, ".")
	if err != nil {
		return found
	}
	own, _ := fs.ReadLink(proc, "thread-self/ns/net")
	seen := map[string]bool{own: true, "": true}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		comm, err := fs.ReadFile(proc, entry.Name()+"/comm")
		if err != nil {
			continue
		}
		p := doctor.Program{PID: pid, Name: strings.TrimSpace(string(comm))}
		found.all = append(found.all, p)
		if ns, _ := fs.ReadLink(proc, entry.Name()+"/ns/net"); !seen[ns] && !kernelThread(proc, entry.Name()) {
			seen[ns] = true
			found.namespaces = append(found.namespaces, doctor.Namespace{Program: p.Name, PID: pid})
		}
		if len(inodes) > 0 {
			found.claim(proc, p, inodes)
		}
	}
	return found
}

// kernelThread reports whether a process is none of a program: those have no
// arguments, not even their own name. They are in the first network namespace
// and send nothing.
func kernelThread(proc fs.FS, pid string) bool {
	arguments, err := fs.ReadFile(proc, pid+"/cmdline")
	return err == nil && len(arguments) == 0
}

// claim notes which of the sockets asked for a program has open.
func (found *programs) claim(proc fs.FS, p doctor.Program, inodes map[uint64]bool) {
	dir := strconv.Itoa(p.PID) + "/fd"
	files, err := fs.ReadDir(proc, dir)
	if err != nil {
		return
	}
	for _, file := range files {
		target, err := fs.ReadLink(proc, dir+"/"+file.Name())
		if err != nil {
			continue
		}
		number, isSocket := strings.CutPrefix(target, "socket:[")
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		if isSocket && err == nil && inodes[inode] {
			found.owners[inode] = p
		}
	}
}
