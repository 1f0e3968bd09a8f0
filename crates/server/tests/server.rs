//! A server with tiny models of random weights, and a client made of a socket.

#[path = "server/chatting.rs"]
mod chatting;
#[path = "server/client.rs"]
mod client;
#[path = "server/completing.rs"]
mod completing;
#[path = "server/conversing.rs"]
mod conversing;
#[path = "server/describing.rs"]
mod describing;
#[path = "server/forming.rs"]
mod forming;
#[path = "server/limits.rs"]
mod limits;
#[path = "server/looking.rs"]
mod looking;
#[path = "server/metering.rs"]
mod metering;
#[path = "server/receipts.rs"]
mod receipts;
#[path = "server/responding.rs"]
mod responding;
#[path = "server/stopping.rs"]
mod stopping;
#[path = "server/texts.rs"]
mod texts;
#[path = "server/tiny.rs"]
mod tiny;
#[path = "server/translating.rs"]
mod translating;
#[path = "server/transport.rs"]
mod transport;
