//! Errors as a client sees them, in OpenAI's shape.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use taal_inference::InferenceError;
use taal_store::ErrorKind;
use utoipa::ToSchema;

/// OpenAI's code for a prompt that does not fit.
const CONTEXT: &str = "context_length_exceeded";

/// The code for a form that an answer cannot have.
const FORM: &str = "invalid_form";

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// OpenAI's `type`.
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code: None,
        }
    }

    /// A request that must be changed.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field with a wrong value.
    pub(crate) fn field(param: impl Into<String>, message: impl std::fmt::Display) -> Self {
        let param = param.into();
        let mut refusal = Self::bad(format!("{param}: {message}"));
        refusal.code = Some("invalid_value");
        refusal.param = Some(param);
        refusal
    }

    pub(crate) fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    pub(crate) fn unknown_model(name: &str, known: &[&str]) -> Self {
        let message = format!(
            "the model {} does not exist; this server has {}",
            taal_store::excerpt(name),
            known.join(", ")
        );
        let mut refusal = Self::status(StatusCode::NOT_FOUND, message);
        refusal.param = Some("model".to_owned());
        refusal.with_code("model_not_found")
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::status(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn no_conversation(id: &str) -> Self {
        let message = format!(
            "there is no conversation {}; it may have been removed",
            taal_store::excerpt(id)
        );
        Self::not_found(message).with_code("no_conversation")
    }

    pub(crate) fn changed_elsewhere(id: &str, given: u64, kept: u64) -> Self {
        let message = format!(
            "the conversation {id} was changed elsewhere: this change is of revision {given}, and revision {kept} is kept; \
             keep yours under another id"
        );
        Self::status(StatusCode::CONFLICT, message).with_code("changed_elsewhere")
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "a valid key is needed: send it as `Authorization: Bearer KEY`";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message).with_code("invalid_api_key")
    }

    pub(crate) fn overloaded(status: StatusCode, message: String) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ => "server_error",
        };
        Self::new(status, kind, message).with_code("overloaded")
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Whether the prompt did not fit.
    pub(crate) fn is_context(&self) -> bool {
        self.code == Some(CONTEXT)
    }

    /// Whether the answer cannot have the form that it should.
    pub(crate) fn is_form(&self) -> bool {
        self.code == Some(FORM)
    }

    /// The same with the name of the field.
    pub(crate) fn of(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// The same with the name of the field, where it has none.
    pub(crate) fn or_of(self, param: &str) -> Self {
        match self.param {
            Some(_) => self,
            None => self.of(param),
        }
    }

    /// The same for a request whose text is in `input`.
    pub(crate) fn of_input(mut self) -> Self {
        const OTHERS: [&str; 2] = ["prompt", "text"];
        if let Some(param) = self.param.take_if(|param| OTHERS.contains(&param.as_str())) {
            if let Some(rest) = self.message.strip_prefix(&format!("{param}: ")) {
                self.message = format!("input: {rest}");
            }
            self.param = Some("input".to_owned());
        }
        self
    }

    /// A prompt that does not fit, in other words than those of the context.
    pub(crate) fn too_long(param: &str, message: impl std::fmt::Display) -> Self {
        Self::field(param, message).with_code(CONTEXT)
    }

    /// OpenAI's object.
    pub(crate) fn json(&self) -> Failed {
        Failed {
            error: Reason {
                message: self.message.clone(),
                kind: self.kind,
                param: self.param.clone(),
                code: self.code,
            },
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct Failed {
    error: Reason,
}

/// What is wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reason)]
struct Reason {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field that is wrong.
    param: Option<String>,
    code: Option<&'static str>,
}

impl From<InferenceError> for Refusal {
    fn from(error: InferenceError) -> Self {
        let message = error.to_string();
        match error {
            error if crate::form::is_about_form(&error) => Self::bad(message).with_code(FORM).of("response_format"),
            InferenceError::PromptTooLong { tokens, context } => Self::bad(format!(
                "this model's maximum context length is {context} tokens, and the prompt has {tokens}: give a shorter prompt"
            ))
            .with_code(CONTEXT)
            .of("prompt"),
            InferenceError::SentenceTooLong { .. } => Self::bad(message).with_code(CONTEXT).of("input"),
            InferenceError::Setting { key, detail } => Self::field(key, detail),
            InferenceError::QueueFull { .. } => Self::overloaded(StatusCode::TOO_MANY_REQUESTS, message),
            InferenceError::WaitedTooLong | InferenceError::Stopping => {
                Self::overloaded(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            InferenceError::UnknownId { .. } | InferenceError::EmptyPrompt { .. } => Self::bad(message).of("prompt"),
            InferenceError::NoTokenizer { .. }
            | InferenceError::NoRow { .. }
            | InferenceError::NotMasked
            | InferenceError::NotCausal { .. }
            | InferenceError::NeedsSource { .. }
            | InferenceError::NotTranslator { .. }
            | InferenceError::Tokenizer(_) => Self::bad(message),
            _ => Self::internal(message),
        }
    }
}

impl From<taal_store::Error> for Refusal {
    fn from(error: taal_store::Error) -> Self {
        let message = error.to_string();
        match (error.kind(), &error) {
            (ErrorKind::InUse, _) => Self::overloaded(StatusCode::SERVICE_UNAVAILABLE, message),
            (_, taal_store::Error::NoSpace { .. }) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "server_error", message).with_code("disk_full")
            }
            _ => Self::internal(message),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let field = match self.status {
            // How long a client should wait before it tries again, in seconds.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, "1")),
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = field {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
