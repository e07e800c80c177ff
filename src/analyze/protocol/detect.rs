//! Which protocol a connection speaks, from its first bytes; never from its port alone.
