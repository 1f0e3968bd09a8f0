//! The description of the interface, made of the routes and the types of their requests and answers.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Object, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Type,
};

use crate::failure::Failed;
use crate::router;

/// What an answer with a status means.
const STATUSES: [(u16, &str); 14] = [
    (400, "A wrong value, by name, or a prompt that does not fit."),
    (401, "A key is needed."),
    (403, "Another host's name."),
    (404, "No such model, conversation or run, or no such file of the page."),
    (405, "Another method; the field Allow has the right ones."),
    (408, "The body took too long."),
    (409, "It was changed elsewhere."),
    (413, "The body is too large."),
    (414, "The address is too long."),
    (415, "The body is not JSON."),
    (429, "The queue is full; the field Retry-After has the seconds to wait."),
    (431, "The head is too large."),
    (503, "The wait was too long, or the server is stopping."),
    (507, "The disk is full."),
];

/// Statuses of every address, of those with a body, and of those that wait for an engine.
const ALWAYS: [u16; 4] = [403, 405, 414, 431];
const WITH_BODY: [u16; 5] = [400, 404, 408, 413, 415];
const WITH_ENGINE: [u16; 2] = [429, 503];

/// What the description says about an address and a method.
pub(crate) struct Described {
    summary: &'static str,
    method: HttpMethod,
    has_name: bool,
    request: Option<String>,
    answers: Vec<(&'static str, RefOr<Schema>)>,
    schemas: Vec<(String, RefOr<Schema>)>,
    statuses: Vec<u16>,
}

impl Described {
    /// A request without a body.
    pub(crate) fn get(summary: &'static str) -> Self {
        Self {
            summary,
            method: HttpMethod::Get,
            has_name: false,
            request: None,
            answers: Vec::new(),
            schemas: Vec::new(),
            statuses: ALWAYS.to_vec(),
        }
    }

    /// A request with the JSON object `R`.
    pub(crate) fn post<R: ToSchema>(summary: &'static str) -> Self {
        let mut described = Self::get(summary);
        described.method = HttpMethod::Post;
        described.statuses.extend(WITH_BODY);
        described.request = Some(described.schema::<R>());
        described
    }

    /// A request that removes what the address names.
    pub(crate) fn delete(summary: &'static str) -> Self {
        Self {
            method: HttpMethod::Delete,
            ..Self::get(summary)
        }
    }

    /// The request may also end with these statuses.
    pub(crate) fn or(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.statuses.extend(statuses);
        self
    }

    /// The last part of the address is a name.
    pub(crate) fn named(mut self) -> Self {
        self.has_name = true;
        self.statuses.extend([400, 404]);
        self
    }

    /// The answer is the JSON object `A`.
    pub(crate) fn json<A: ToSchema>(mut self) -> Self {
        let name = self.schema::<A>();
        self.answers
            .push(("application/json", Ref::from_schema_name(name).into()));
        self
    }

    /// The answer may also be a stream of events with the JSON object `A`.
    pub(crate) fn events<A: ToSchema>(mut self) -> Self {
        let name = self.schema::<A>();
        self.answers
            .push(("text/event-stream", Ref::from_schema_name(name).into()));
        self
    }

    /// The answer is text of this type.
    pub(crate) fn text(mut self, kind: &'static str) -> Self {
        self.answers.push((kind, Object::with_type(Type::String).into()));
        self
    }

    /// The request may wait for an engine.
    pub(crate) fn waits(mut self) -> Self {
        self.statuses.extend(WITH_ENGINE);
        self
    }

    fn schema<T: ToSchema>(&mut self) -> String {
        let name = T::name().into_owned();
        self.schemas.push((name.clone(), T::schema()));
        T::schemas(&mut self.schemas);
        name
    }

    fn responses(&self, needs_key: bool) -> Vec<(String, RefOr<Response>)> {
        let answer = self.answers.iter().fold(
            ResponseBuilder::new().description("The answer."),
            |answer, (kind, schema)| answer.content(*kind, Content::new(Some(schema.clone()))),
        );
        let failed = || Content::new(Some(Ref::from_schema_name(Failed::name())));
        let is_possible = |status: &u16| self.statuses.contains(status) || (needs_key && *status == 401);
        let failures = STATUSES.iter().filter(|(status, _)| is_possible(status));
        let failures = failures.map(|(status, meaning)| {
            let response = ResponseBuilder::new()
                .description(*meaning)
                .content("application/json", failed());
            (status.to_string(), response.build().into())
        });
        std::iter::once(("200".to_owned(), answer.build().into()))
            .chain(failures)
            .collect()
    }

    fn item(&self, needs_key: bool) -> PathItem {
        let mut operation = OperationBuilder::new().summary(Some(self.summary));
        for (status, response) in self.responses(needs_key) {
            operation = operation.response(status, response);
        }
        if !needs_key {
            operation = operation.securities(Some([SecurityRequirement::default()]));
        }
        if self.has_name {
            operation = operation.parameter(name_parameter());
        }
        if let Some(request) = &self.request {
            let content = Content::new(Some(Ref::from_schema_name(request)));
            let body = RequestBodyBuilder::new()
                .content("application/json", content)
                .required(Some(Required::True));
            operation = operation.request_body(Some(body.build()));
        }
        PathItem::new(self.method.clone(), operation)
    }
}

fn name_parameter() -> Parameter {
    ParameterBuilder::new()
        .name("name")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(Object::with_type(Type::String)))
        .build()
}

/// One object with the fields of several.
pub(crate) fn merged(parts: impl IntoIterator<Item = RefOr<Schema>>) -> RefOr<Schema> {
    let mut all = Object::new();
    for part in parts {
        if let RefOr::T(Schema::Object(part)) = part {
            all.required.extend(part.required);
            all.properties.extend(part.properties);
        }
    }
    all.required.sort();
    all.required.dedup();
    all.into()
}

/// A request whose fields are read in parts: `merge!(Request: First, Second)`.
macro_rules! merge {
    ($(#[$meta:meta])* $name:ident: $($part:ty),+) => {
        $(#[$meta])*
        pub(crate) struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::api::openapi::merged([$(<$part as utoipa::PartialSchema>::schema()),+])
            }
        }

        impl utoipa::ToSchema for $name {
            fn schemas(all: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>) {
                $(<$part as utoipa::ToSchema>::schemas(all);)+
            }
        }
    };
}
pub(crate) use merge;

fn description() -> OpenApi {
    let (mut paths, mut components) = (Paths::new(), Components::new());
    for (path, needs_key, described) in router::described() {
        let item = described.item(needs_key);
        // An address has one entry, also where it takes several methods.
        match paths.paths.get_mut(path) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.paths.insert(path.to_owned(), item)),
        }
        components.schemas.extend(described.schemas);
    }
    let mut failed = Described::get("");
    failed.schema::<Failed>();
    components.schemas.extend(failed.schemas);
    let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("key", SecurityScheme::Http(key));
    let info = InfoBuilder::new()
        .title("Taal")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Language models, with the addresses and shapes of OpenAI's interface. Unknown fields are ignored.",
        ));
    let needs_key = SecurityRequirement::new("key", [""; 0]);
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .security(Some([SecurityRequirement::default(), needs_key]))
        .build()
}

/// The description as JSON.
static DESCRIPTION: LazyLock<Result<String, String>> =
    LazyLock::new(|| description().to_json().map_err(|error| error.to_string()));

pub(crate) async fn openapi() -> Result<impl IntoResponse, crate::failure::Refusal> {
    let text = DESCRIPTION.as_ref();
    let text = text.map_err(|error| crate::failure::Refusal::internal(error.as_str()))?;
    Ok(([(CONTENT_TYPE, "application/json")], text.as_str()))
}
