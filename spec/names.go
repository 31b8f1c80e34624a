package spec

import (
	"fmt"
	"strings"
)

// ContainerName is the name Compose gives to the n-th container (from 1) of a service without a container_name.
func ContainerName(stack, service string, n int) string {
	return fmt.Sprintf("%s-%s-%d", stack, service, n)
}

// ContainerNameOf is the name of the service's n-th container (from 1): its container_name, or the one Compose gives.
func (s *Service) ContainerNameOf(stack string, n int) string {
	if s.ContainerName != "" {
		return s.ContainerName
	}
	return ContainerName(stack, s.Name, n)
}

// NormalizeName turns any text, such as a directory's name, into a stack name as Compose does: lower case, without
// the characters that a name can't have. The result may be empty.
func NormalizeName(s string) string {
	kept := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(s))
	return strings.TrimLeft(kept, "_-")
}

// SuccessorName is the name of a container that is made beside the one it takes the place of, until that one is gone.
func SuccessorName(name, old string) string { return old[:min(12, len(old))] + "_" + name }
