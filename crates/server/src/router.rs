//! Addresses, and what holds for all of them: keys, hosts, bodies, figures.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;

use crate::answering::Gone;
use crate::api;
use crate::app::App;
use crate::failure::{Refusal, Status};
use crate::http::{Connection, Head, Method, Reply, write_pieces, write_whole};
use crate::{metrics, page, parse};

/// What a log may say about a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestRecord {
    /// GET, POST or another.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Seconds until the end of the answer.
    pub seconds: f64,
}

/// What answers a request.
#[derive(Clone, Copy)]
enum Answer {
    /// A request without a body; it gets the rest of the path.
    Get(fn(&App, &str) -> Result<Reply, Refusal>),
    /// A request with a JSON object.
    Post(fn(&App, &[u8]) -> Result<Reply, Refusal>),
    /// One whose answer may be sent in pieces; there is none left to send then.
    Generate(fn(&mut Exchange<'_>, &[u8]) -> Result<Option<Reply>, Gone>),
}

/// An address.
struct Route {
    /// A path that ends in `{name}` stands for all that begin so.
    path: &'static str,
    /// Whether it needs the key, where there is one. Files of the page have no secrets, and programs without a key ask for the health.
    needs_key: bool,
    answer: Answer,
}

const fn route(path: &'static str, needs_key: bool, answer: Answer) -> Route {
    Route {
        path,
        needs_key,
        answer,
    }
}

/// Every address.
static ROUTES: [Route; 16] = [
    route("/", false, Answer::Get(|_, _| page::file("index.html"))),
    route("/page/{name}", false, Answer::Get(|_, name| page::file(name))),
    route("/health", false, Answer::Get(|app, _| api::health(app))),
    route("/metrics", true, Answer::Get(|app, _| Ok(figures(app)))),
    route("/openapi.json", true, Answer::Get(|_, _| Ok(api::openapi()))),
    route("/v1/models", true, Answer::Get(|app, _| Ok(api::models(app)))),
    route("/v1/models/{name}", true, Answer::Get(api::model)),
    route("/v1/completions", true, Answer::Generate(api::completions)),
    route("/v1/chat/completions", true, Answer::Generate(api::chat)),
    route("/v1/chat/render", true, Answer::Post(api::render)),
    route("/v1/embeddings", true, Answer::Post(api::embeddings)),
    route("/v1/fill-mask", true, Answer::Post(api::fill_mask)),
    route("/v1/tokenize", true, Answer::Post(api::tokenize)),
    route("/v1/detokenize", true, Answer::Post(api::detokenize)),
    route("/tokenize", true, Answer::Post(api::tokenize)),
    route("/detokenize", true, Answer::Post(api::detokenize)),
];

/// A request that may be answered in pieces.
pub(crate) struct Exchange<'a> {
    pub(crate) app: &'a App,
    connection: &'a mut Connection,
    head: &'a Head,
    keeps_alive: bool,
    /// Whether the answer has begun, so that no status can be sent.
    is_begun: bool,
}

impl Exchange<'_> {
    /// Whether the client has left.
    pub(crate) fn is_left(&self) -> bool {
        self.connection.is_left()
    }

    /// Sends a stream of server-sent events.
    pub(crate) fn stream(
        &mut self,
        write: impl FnOnce(&App, &mut crate::sse::Events<'_>) -> Result<(), Gone>,
    ) -> Result<Option<Reply>, Gone> {
        self.is_begun = true;
        let pieces = write_pieces(self.connection, self.head, "text/event-stream", self.keeps_alive)?;
        let mut events = crate::sse::Events::new(pieces);
        write(self.app, &mut events)?;
        events.finish()?;
        Ok(None)
    }
}

/// Answers a request; returns whether another one may follow on the connection.
pub(crate) fn answer(app: &App, connection: &mut Connection, head: &Head, is_stopping: bool) -> bool {
    let begin = Instant::now();
    let in_flight = InFlight::new(app);
    let found = found(&head.path);
    let mut keeps_alive = head.keeps_alive && !is_stopping;
    let status = match replied(app, connection, head, keeps_alive, found) {
        Ok(None) => Status::Ok,
        Ok(Some(reply)) => {
            keeps_alive &= write_whole(connection, &reply, head.method, keeps_alive).is_ok();
            reply.status
        }
        Err(Gone::Left) => {
            keeps_alive = false;
            Status::Ok
        }
        Err(Gone::Refused(refusal)) => {
            // The body may not have been read.
            keeps_alive &=
                matches!(refusal.status, Status::Bad | Status::Full | Status::Unavailable) && refusal.is_read;
            let reply = Reply::from(refusal);
            keeps_alive &= write_whole(connection, &reply, head.method, keeps_alive).is_ok();
            reply.status
        }
    };
    drop(in_flight);
    let code = status.line().0;
    app.metrics.count(found.map_or("other", |(route, _)| route.path), code);
    app.metrics.duration.add(begin.elapsed());
    if let Some(see) = &app.on_request {
        see(&RequestRecord {
            method: taal_store::shorten(&head.method_name),
            path: taal_store::shorten(&head.path),
            status: code,
            seconds: begin.elapsed().as_secs_f64(),
        });
    }
    keeps_alive
}

/// A request that is being answered, also when that ends in a panic.
struct InFlight<'a>(&'a App);

impl<'a> InFlight<'a> {
    fn new(app: &'a App) -> Self {
        app.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(app)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The route of a path, and the rest of the path.
fn found(path: &str) -> Option<(&'static Route, &str)> {
    ROUTES.iter().find_map(|route| match route.path.strip_suffix("{name}") {
        Some(beginning) => {
            let rest = path.strip_prefix(beginning).filter(|rest| !rest.is_empty())?;
            Some((route, rest))
        }
        None => (route.path == path).then_some((route, "")),
    })
}

/// The answer, unless it was sent in pieces.
fn replied(
    app: &App,
    connection: &mut Connection,
    head: &Head,
    keeps_alive: bool,
    found: Option<(&Route, &str)>,
) -> Result<Option<Reply>, Gone> {
    check_host(app, head)?;
    let (route, rest) = found.ok_or_else(|| Refusal::status(Status::NotFound, "there is no such address"))?;
    let is_get = matches!(head.method, Method::Get | Method::Head);
    let answer = match (route.answer, is_get, head.method) {
        (Answer::Get(_), true, _) | (Answer::Post(_) | Answer::Generate(_), _, Method::Post) => route.answer,
        _ => {
            let name = taal_store::excerpt(&head.method_name);
            return Err(Refusal::status(Status::WrongMethod, format!("{name} is not a method of this address")).into());
        }
    };
    if route.needs_key {
        check_key(app, head)?;
    }
    if let Answer::Get(answer) = answer {
        // A body, which has no meaning here, would be taken for the next request.
        connection.body(head, app.max_body, app.body_timeout)?;
        return Ok(Some(answer(app, &decoded(rest))?));
    }
    check_type(head)?;
    let body = connection.body(head, app.max_body, app.body_timeout)?;
    let read = |mut refusal: Refusal| {
        refusal.is_read = true;
        refusal
    };
    parse::check_object(&body).map_err(read)?;
    match answer {
        Answer::Get(answer) => Ok(Some(answer(app, rest)?)),
        Answer::Post(answer) => Ok(Some(answer(app, &body).map_err(read)?)),
        Answer::Generate(answer) => {
            let mut exchange = Exchange {
                app,
                connection,
                head,
                keeps_alive,
                is_begun: false,
            };
            let answered = answer(&mut exchange, &body);
            match (exchange.is_begun, answered) {
                (_, Ok(reply)) => Ok(reply),
                // What has begun ends without its end mark.
                (true, Err(_)) => Err(Gone::Left),
                (false, Err(Gone::Refused(refusal))) => Err(read(refusal).into()),
                (false, Err(Gone::Left)) => Err(Gone::Left),
            }
        }
    }
}

/// A page of another site could otherwise give its own name this machine's address, and read the answers.
fn check_host(app: &App, head: &Head) -> Result<(), Refusal> {
    let is_open = app.is_local && app.key.is_none();
    if !is_open || !head.has("host") || head.text("host").is_some_and(is_this_machine) {
        return Ok(());
    }
    let message = "this server answers to localhost and 127.0.0.1 only";
    Err(Refusal::status(Status::Forbidden, message))
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

fn check_key(app: &App, head: &Head) -> Result<(), Refusal> {
    let Some(key) = app.key else { return Ok(()) };
    let given = head
        .text("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    // Hashes compare in constant time.
    match given.is_some_and(|given| blake3::hash(given.trim().as_bytes()) == key) {
        true => Ok(()),
        false => Err(Refusal::unauthorized()),
    }
}

/// A page of another site can send other types than JSON without asking first.
fn check_type(head: &Head) -> Result<(), Refusal> {
    let kind = head.text("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    match kind.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Refusal::status(
            Status::NotJson,
            "the Content-Type must be application/json",
        )),
    }
}

/// A part of a path with its `%2F` and others written out.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn figures(app: &App) -> Reply {
    Reply::new("text/plain; version=0.0.4; charset=utf-8", metrics::text(app))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_decoded() {
        assert_eq!(decoded("org%2Fname%3a1"), "org/name:1");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%e9"), "%zz\u{fffd}");
    }
}
