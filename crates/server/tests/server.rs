//! A server with tiny models of random weights, and a client made of a socket.

#[path = "server/chatting.rs"]
mod chatting;
#[path = "server/client.rs"]
mod client;
#[path = "server/completing.rs"]
mod completing;
#[path = "server/describing.rs"]
mod describing;
#[path = "server/limits.rs"]
mod limits;
#[path = "server/stopping.rs"]
mod stopping;
#[path = "server/texts.rs"]
mod texts;
#[path = "server/tiny.rs"]
mod tiny;
