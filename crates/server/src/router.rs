//! Addresses, and what holds for all of them: keys, hosts, heads, figures.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

use crate::api::openapi::Described;
use crate::api::{chat, completions, conversations, inside, models, openapi, responses, runs, texts, translate};
use crate::app::App;
use crate::conversations::Conversation;
use crate::failure::Refusal;
use crate::page;
use crate::shapes::{ChatCompletion, ChatCompletionPart, Completion};

/// Fields of a head, and bytes of a head and of an address.
const MAX_FIELDS: usize = 64;
const MAX_HEAD: usize = 16 * 1024;
const MAX_ADDRESS: usize = 4096;

/// Fields of every answer. Only files of the server itself may be loaded by its page, and no other page may show it.
pub(crate) const FIELDS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The status in records and figures of a request whose client left before its answer began, as nginx has it.
const LEFT: u16 = 499;

/// What a log may say about a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestRecord {
    /// GET, POST or another.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The answer's status; 499 where the client left before its answer began.
    pub status: u16,
    /// Seconds until the end of the answer.
    pub seconds: f64,
}

/// An address.
struct Route {
    /// A path that ends in `{name}` stands for all that begin so: names of models may have slashes.
    path: &'static str,
    /// Whether it needs the key, where there is one. Files of the page have no secrets, and programs without a key ask for the health.
    needs_key: bool,
    /// What answers.
    methods: fn() -> MethodRouter<Arc<App>>,
    /// What `/openapi.json` says about it.
    described: fn() -> Described,
    /// The same for a second method, where there is one.
    also: Option<fn() -> Described>,
}

const fn open(path: &'static str, methods: fn() -> MethodRouter<Arc<App>>, described: fn() -> Described) -> Route {
    Route {
        path,
        needs_key: false,
        methods,
        described,
        also: None,
    }
}

const fn closed(path: &'static str, methods: fn() -> MethodRouter<Arc<App>>, described: fn() -> Described) -> Route {
    Route {
        path,
        needs_key: true,
        methods,
        described,
        also: None,
    }
}

impl Route {
    /// The same with a second method.
    const fn also(mut self, described: fn() -> Described) -> Self {
        self.also = Some(described);
        self
    }
}

/// Every address.
static ROUTES: [Route; 26] = [
    open(
        "/",
        || get(page::index),
        || Described::get("The page.").text("text/html"),
    ),
    open(
        "/page/{name}",
        || get(page::file),
        || {
            let kinds = ["text/html", "text/css", "text/javascript", "image/svg+xml"];
            let described = Described::get("A file of the page.").named();
            kinds.into_iter().fold(described, Described::text)
        },
    ),
    open(
        "/health",
        || get(models::health),
        || {
            Described::get("Whether the server answers.")
                .json::<models::Health>()
                .waits()
        },
    ),
    closed(
        "/metrics",
        || get(models::metrics),
        || Described::get("Figures in Prometheus's text format.").text("text/plain"),
    ),
    closed(
        "/openapi.json",
        || get(openapi::openapi),
        || Described::get("This description.").text("application/json"),
    ),
    closed(
        "/v1/models",
        || get(models::models),
        || Described::get("The models.").json::<models::Models>(),
    ),
    closed(
        "/v1/models/{name}",
        || get(models::model),
        || Described::get("A model.").named().json::<models::Model>(),
    ),
    closed(
        "/v1/completions",
        || post(completions::completions),
        || {
            Described::post::<completions::CompletionRequest>("Continue prompts.")
                .json::<Completion>()
                .events::<Completion>()
                .waits()
        },
    ),
    closed(
        "/v1/chat/completions",
        || post(chat::chat),
        || {
            Described::post::<chat::ChatRequest>("Answer in a conversation.")
                .json::<ChatCompletion>()
                .events::<ChatCompletionPart>()
                .waits()
        },
    ),
    closed(
        "/v1/chat/render",
        || post(chat::render),
        || {
            let summary = "The exact prompt that a conversation becomes, and its tokens.";
            Described::post::<chat::RenderRequest>(summary).json::<chat::Rendered>()
        },
    ),
    closed(
        "/v1/responses",
        || post(responses::responses),
        || {
            Described::post::<responses::ResponseRequest>("Answer in the shape of OpenAI's Responses interface.")
                .json::<responses::Responded>()
                .events::<responses::ResponseEvent>()
                .waits()
        },
    ),
    closed(
        "/v1/embeddings",
        || post(texts::embeddings),
        || Described::post::<texts::EmbeddingRequest>("Turn texts into vectors.").json::<texts::Embeddings>(),
    ),
    closed(
        "/v1/fill-mask",
        || post(texts::fill_mask),
        || Described::post::<texts::FillRequest>("Fill the gaps of texts.").json::<texts::Fillings>(),
    ),
    closed(
        "/v1/translate",
        || post(translate::translate),
        || Described::post::<translate::TranslateRequest>("Translate texts.").json::<translate::Translations>(),
    ),
    closed("/v1/tokenize", || post(texts::tokenize), tokenizing),
    closed("/v1/detokenize", || post(texts::detokenize), detokenizing),
    closed(
        "/conversations",
        || get(conversations::list).post(conversations::keep),
        || {
            Described::get("The conversations that the page keeps.")
                .json::<conversations::ConversationList>()
                .or([503])
        },
    )
    .also(|| {
        Described::post::<Conversation>("Keep a conversation.")
            .json::<conversations::Kept>()
            .or([409, 503, 507])
    }),
    closed(
        "/conversations/export",
        || get(conversations::export),
        || {
            Described::get("All conversations, as a file.")
                .json::<conversations::ConversationFile>()
                .or([404, 503])
        },
    ),
    closed(
        "/conversations/import",
        || post(conversations::import),
        || {
            Described::post::<conversations::ConversationFile>("Keep the conversations of a file as new ones.")
                .json::<conversations::Imported>()
                .or([503, 507])
        },
    ),
    closed(
        "/conversations/{name}",
        || get(conversations::get).delete(conversations::remove),
        || {
            Described::get("A conversation.")
                .named()
                .json::<Conversation>()
                .or([503])
        },
    )
    .also(|| {
        Described::delete("Remove a conversation.")
            .named()
            .json::<conversations::Removed>()
            .or([503, 507])
    }),
    closed(
        "/trace",
        || post(inside::trace),
        || {
            Described::post::<inside::TraceRequest>(
                "What a model does with a text: attention, and guesses after every layer.",
            )
            .json::<inside::Traced>()
        },
    ),
    closed(
        "/runs",
        || get(runs::list),
        || Described::get("The runs of a folder.").json::<runs::RunList>(),
    ),
    closed(
        "/runs/answer",
        || post(runs::answer),
        || {
            Described::post::<runs::CheckpointRequest>("What a checkpoint of a run answers.")
                .json::<runs::CheckpointAnswer>()
        },
    ),
    closed(
        "/runs/{name}",
        || get(runs::curves),
        || {
            Described::get("A run with its curves.")
                .named()
                .json::<runs::RunCurves>()
        },
    ),
    closed("/tokenize", || post(texts::tokenize), tokenizing),
    closed("/detokenize", || post(texts::detokenize), detokenizing),
];

fn tokenizing() -> Described {
    Described::post::<texts::TokenizeRequest>("The tokens of a text.").json::<texts::Tokens>()
}

fn detokenizing() -> Described {
    Described::post::<texts::DetokenizeRequest>("The text of tokens.").json::<texts::Text>()
}

/// Each address and method, whether it needs the key where there is one, and its description.
pub(crate) fn described() -> impl Iterator<Item = (&'static str, bool, Described)> {
    ROUTES.iter().flat_map(|route| {
        let all = std::iter::once(route.described).chain(route.also);
        all.map(move |described| (route.path, route.needs_key, described()))
    })
}

/// The route of an answer.
#[derive(Clone, Copy)]
struct RouteName(&'static str);

/// All addresses with everything that is checked before they answer.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let mut methods = (route.methods)();
        if route.needs_key {
            methods = methods.route_layer(from_fn_with_state(app.clone(), check_key));
        }
        let name = RouteName(route.path);
        let named = map_response(move |mut response: Response| async move {
            response.extensions_mut().insert(name);
            response
        });
        let methods = methods.fallback(wrong_method).layer(named);
        router = router.route(&route.path.replace("{name}", "{*name}"), methods);
    }
    router
        .fallback(async || Refusal::status(StatusCode::NOT_FOUND, "there is no such address"))
        .layer(from_fn_with_state(app.clone(), check_head))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app.clone())
}

/// Why hyper refuses a request with this status before it is one.
pub(crate) fn unreadable(status: u16) -> Option<String> {
    match StatusCode::from_u16(status).ok()? {
        StatusCode::BAD_REQUEST => Some("the head of the request is not that of HTTP/1.1".to_owned()),
        StatusCode::URI_TOO_LONG => Some(long_address()),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(large_head()),
        _ => None,
    }
}

fn long_address() -> String {
    format!("the address is longer than {MAX_ADDRESS} bytes")
}

fn large_head() -> String {
    format!("the head of the request has more than {MAX_FIELDS} fields or {MAX_HEAD} bytes")
}

async fn wrong_method(method: Method) -> Refusal {
    let name = taal_store::excerpt(method.as_str());
    let message = format!("{name} is not a method of this address");
    Refusal::status(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Refuses heads that are too large or ask for another host.
async fn check_head(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let address = request.uri().to_string();
    if address.len() > MAX_ADDRESS {
        return Err(Refusal::status(StatusCode::URI_TOO_LONG, long_address()));
    }
    let fields = request.headers();
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    if fields.len() > MAX_FIELDS || address.len() + fields.iter().map(length).sum::<usize>() > MAX_HEAD {
        return Err(Refusal::status(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            large_head(),
        ));
    }
    if app.is_local && app.key.is_none() {
        check_host(fields, request.uri().host())?;
    }
    Ok(next.run(request).await)
}

/// A page of another site could otherwise give its own name this machine's address, and read the answers.
fn check_host(fields: &HeaderMap, in_address: Option<&str>) -> Result<(), Refusal> {
    let in_fields = fields.get_all(HOST).iter();
    let is_fine = in_fields
        .into_iter()
        .all(|host| host.to_str().is_ok_and(is_this_machine));
    match is_fine && in_address.is_none_or(is_this_machine) {
        true => Ok(()),
        false => Err(Refusal::status(
            StatusCode::FORBIDDEN,
            "this server answers to localhost and 127.0.0.1 only",
        )),
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback || name.eq_ignore_ascii_case("localhost")
}

async fn check_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    if let Some(key) = app.key {
        let given = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        // The name of the scheme has no case.
        let given = given
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
            .map(|(_, key)| key);
        // Hashes compare in constant time.
        if given.is_none_or(|given| blake3::hash(given.trim().as_bytes()) != key) {
            return Err(Refusal::unauthorized());
        }
    }
    Ok(next.run(request).await)
}

/// Counts and records a request, and adds the fields that every answer has.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut watch = Watch::new(app, &request);
    let mut response = next.run(request).await;
    watch.status = response.status().as_u16();
    if let Some(RouteName(route)) = response.extensions().get() {
        watch.route = route;
    }
    let fields = response.headers_mut();
    for (name, value) in FIELDS {
        let name = HeaderName::from_static(name);
        if name != CACHE_CONTROL || !fields.contains_key(&name) {
            fields.insert(name, HeaderValue::from_static(value));
        }
    }
    response.map(|body| Body::new(Watched { body, _watch: watch }))
}

/// A request that is being answered. Its end is counted when it is dropped, also where the client has left or an answer panicked.
struct Watch {
    app: Arc<App>,
    method: String,
    path: String,
    route: &'static str,
    status: u16,
    begin: Instant,
}

impl Watch {
    fn new(app: Arc<App>, request: &Request) -> Self {
        app.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            app,
            method: taal_store::shorten(request.method().as_str()),
            path: taal_store::shorten(request.uri().path()),
            route: "other",
            status: LEFT,
            begin: Instant::now(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let metrics = &self.app.metrics;
        metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        metrics.count(self.route, self.status);
        metrics.duration.add(self.begin.elapsed());
        if let Some(see) = &self.app.on_request {
            see(&RequestRecord {
                method: std::mem::take(&mut self.method),
                path: std::mem::take(&mut self.path),
                status: self.status,
                seconds: self.begin.elapsed().as_secs_f64(),
            });
        }
    }
}

/// A body, and what ends with it.
struct Watched {
    body: Body,
    _watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
