package dns

// SetHostFile replaces the host's resolv.conf.
func (r *Resolver) SetHostFile(path string) { r.host.path = path }
