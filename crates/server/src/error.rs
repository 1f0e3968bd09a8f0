//! Errors of starting and running a server.

use std::net::SocketAddr;

use taal_store::ErrorKind;

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ServerError>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is not an address of this machine.
    #[error("{host}: not an address of this machine; use 127.0.0.1, or 0.0.0.0 for all networks")]
    Address {
        /// The address as it was given.
        host: String,
    },
    /// Another program listens there.
    #[error("{address} is in use by another program; choose another port, or 0 for any free one")]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The operating system does not let the server listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The operating system gives the server no threads.
    #[error("no threads for the server: {source}")]
    Threads {
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Others can reach the address, and there is no key.
    #[error("{address} can be reached by others: give a key, or use 127.0.0.1")]
    KeyNeeded {
        /// The address.
        address: SocketAddr,
    },
    /// A key that no request can carry.
    #[error("the key: expected 1 to 512 printable ASCII characters without spaces")]
    BadKey,
    /// No model.
    #[error("there is no model to serve")]
    NoModel,
    /// Two models of one name.
    #[error("two models are named {name}: give one of them another name")]
    SameName {
        /// The name.
        name: String,
    },
    /// A name that a request cannot use.
    #[error("{name}: a model's name has 1 to 128 letters, digits and any of - _ . : / @")]
    BadName {
        /// The name.
        name: String,
    },
    /// The conversations cannot be kept.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
    /// The model cannot be served.
    #[error(transparent)]
    Inference(#[from] taal_inference::InferenceError),
}

impl ServerError {
    /// The family of the error, from which `taal` takes its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PortInUse { .. } => ErrorKind::InUse,
            Self::Threads { .. } => ErrorKind::Memory,
            Self::Address { .. }
            | Self::Listen { .. }
            | Self::KeyNeeded { .. }
            | Self::BadKey
            | Self::NoModel
            | Self::SameName { .. }
            | Self::BadName { .. } => ErrorKind::Usage,
            Self::Store(error) => error.kind(),
            Self::Inference(error) => error.kind(),
        }
    }
}
