// A stand-in for the binding to the C library of the same name; see doc.go.
module github.com/seccomp/libseccomp-golang

go 1.26
