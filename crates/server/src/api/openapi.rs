//! The description of the interface.

use crate::http::Reply;

/// Compared with the routes and the fields that requests have by the crate's tests.
const DESCRIPTION: &str = include_str!("openapi.json");

pub(crate) fn openapi() -> Reply {
    Reply::new("application/json", DESCRIPTION)
}
