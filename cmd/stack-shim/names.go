package main

import "github.com/stack-run/stack/runtime/shim/server"

// nameService serves names from the records in dir.
func nameService(dir string) server.Names {
	return nil
}
