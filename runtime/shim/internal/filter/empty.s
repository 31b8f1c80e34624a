// Lets the package have functions without a body: they are those of libcontainer.
