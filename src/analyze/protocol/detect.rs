//! Which protocol a connection speaks, from its first bytes; never from its port alone.

/// What the first bytes of a connection look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    Http,
    Mysql,
    /// Something else; the text goes into the `why` column.
    Other(&'static str),
    /// Too few bytes to tell.
    More,
}

/// Tells the protocol from the first bytes that each side sent; either may be empty. `joined` says that these are not
/// the first bytes of the connection.
pub fn guess(client: &[u8], server: &[u8], joined: bool) -> Guess {
    let _ = (client, server, joined);
    Guess::Other("unknown protocol")
}
