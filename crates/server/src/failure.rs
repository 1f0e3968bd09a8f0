//! Errors as a client sees them, in OpenAI's shape.

use serde_json::{Value, json};
use taal_inference::InferenceError;

use crate::http::Reply;

/// The statuses of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    Bad,
    NoKey,
    Forbidden,
    NotFound,
    WrongMethod,
    /// The body took too long.
    Late,
    TooLarge,
    AddressTooLong,
    NotJson,
    /// The queue is full.
    Full,
    HeadTooLarge,
    Internal,
    /// The wait was too long, or the server stops.
    Unavailable,
}

impl Status {
    /// Code and words of the first line.
    pub(crate) fn line(self) -> (u16, &'static str) {
        match self {
            Self::Ok => (200, "OK"),
            Self::Bad => (400, "Bad Request"),
            Self::NoKey => (401, "Unauthorized"),
            Self::Forbidden => (403, "Forbidden"),
            Self::NotFound => (404, "Not Found"),
            Self::WrongMethod => (405, "Method Not Allowed"),
            Self::Late => (408, "Request Timeout"),
            Self::TooLarge => (413, "Content Too Large"),
            Self::AddressTooLong => (414, "URI Too Long"),
            Self::NotJson => (415, "Unsupported Media Type"),
            Self::Full => (429, "Too Many Requests"),
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::Internal => (500, "Internal Server Error"),
            Self::Unavailable => (503, "Service Unavailable"),
        }
    }
}

/// OpenAI's code for a prompt that does not fit.
const CONTEXT: &str = "context_length_exceeded";

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) message: String,
    /// OpenAI's `type`.
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
    /// Whether the body of the request was read, so that another request may follow.
    pub(crate) is_read: bool,
}

impl Refusal {
    fn new(status: Status, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code: None,
            is_read: false,
        }
    }

    /// A request that must be changed.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(Status::Bad, "invalid_request_error", message)
    }

    /// A field with a wrong value.
    pub(crate) fn field(param: impl Into<String>, message: impl std::fmt::Display) -> Self {
        let param = param.into();
        let mut refusal = Self::bad(format!("{param}: {message}"));
        refusal.code = Some("invalid_value");
        refusal.param = Some(param);
        refusal
    }

    pub(crate) fn status(status: Status, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    pub(crate) fn unknown_model(name: &str, known: &[&str]) -> Self {
        let message = format!(
            "the model {} does not exist; this server has {}",
            taal_store::excerpt(name),
            known.join(", ")
        );
        let mut refusal = Self::status(Status::NotFound, message);
        refusal.param = Some("model".to_owned());
        refusal.with_code("model_not_found")
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "a valid key is needed: send it as `Authorization: Bearer KEY`";
        Self::new(Status::NoKey, "authentication_error", message).with_code("invalid_api_key")
    }

    pub(crate) fn overloaded(status: Status, message: String) -> Self {
        let kind = match status {
            Status::Full => "rate_limit_error",
            _ => "server_error",
        };
        Self::new(status, kind, message).with_code("overloaded")
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Status::Internal, "server_error", message)
    }

    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Whether the prompt did not fit.
    pub(crate) fn is_context(&self) -> bool {
        self.code == Some(CONTEXT)
    }

    /// The same with the name of the field.
    pub(crate) fn of(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// OpenAI's object.
    pub(crate) fn json(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl From<InferenceError> for Refusal {
    fn from(error: InferenceError) -> Self {
        let message = error.to_string();
        match error {
            InferenceError::PromptTooLong { tokens, context } => Self::bad(format!(
                "this model's maximum context length is {context} tokens, and the prompt has {tokens}: give a shorter prompt"
            ))
            .with_code(CONTEXT)
            .of("prompt"),
            InferenceError::Setting { key, detail } => Self::field(key, detail),
            InferenceError::QueueFull { .. } => Self::overloaded(Status::Full, message),
            InferenceError::WaitedTooLong | InferenceError::Stopping => {
                Self::overloaded(Status::Unavailable, message)
            }
            InferenceError::NoTokenizer { .. }
            | InferenceError::EmptyPrompt { .. }
            | InferenceError::UnknownId { .. }
            | InferenceError::NoRow { .. }
            | InferenceError::NotMasked
            | InferenceError::NotCausal { .. }
            | InferenceError::Tokenizer(_) => Self::bad(message),
            _ => Self::internal(message),
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut reply = Self::new("application/json", refusal.json().to_string());
        reply.status = refusal.status;
        reply.fields.push_str(match refusal.status {
            // How long a client should wait before it tries again, in seconds.
            Status::Full | Status::Unavailable => "retry-after: 1\r\n",
            Status::NoKey => "www-authenticate: Bearer\r\n",
            _ => "",
        });
        reply
    }
}
