//! The same load on `taal serve` and on llama.cpp's `llama-server`: the same GGUF file, as many requests at once, as many threads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Requests that each server computes at once.
const AT_ONCE: usize = 8;

/// Clients, requests of each, tokens of a prompt and of an answer.
const CLIENTS: usize = 64;
const REQUESTS: usize = 20;
const PROMPT_TOKENS: usize = 64;
const ANSWER_TOKENS: usize = 64;

/// Prompts are of the ids below this, which every vocabulary has.
const IDS: u64 = 256;

/// The servers take turns, this often; the median counts.
const TURNS: usize = 3;

/// How long a server may take to open the model.
const START: Duration = Duration::from_secs(120);

/// What is compared.
pub(super) struct Load<'a> {
    /// The program `taal`.
    pub(super) taal: &'a Path,
    /// The program `llama-server`.
    pub(super) llama_server: &'a Path,
    /// A GGUF file.
    pub(super) model: &'a Path,
    /// Threads of each server.
    pub(super) threads: usize,
}

/// A server that ends with this value.
pub(super) struct Running {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has nothing that could be lost.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints tokens per second of both, and their ratio.
pub(super) fn compare(load: &Load<'_>) -> Result<()> {
    let mut speeds = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        speeds[0].push(speed(&load.taal_serve()?)?);
        speeds[1].push(speed(&load.llama_server()?)?);
    }
    let [ours, theirs] = speeds.map(median);
    println!(
        "{CLIENTS} clients, {REQUESTS} requests each, prompt {PROMPT_TOKENS} tokens, answer {ANSWER_TOKENS}, {AT_ONCE} at once, \
         {} threads\ntaal          {ours:>9.1} tokens/s\nllama-server  {theirs:>9.1} tokens/s\nratio         {:>9.2}",
        load.threads,
        ours / theirs
    );
    Ok(())
}

fn median(mut speeds: Vec<f64>) -> f64 {
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}

impl Load<'_> {
    /// Tokens of a row of the cache.
    const CONTEXT: usize = PROMPT_TOKENS + ANSWER_TOKENS;

    fn taal_serve(&self) -> Result<Running> {
        let mut command = Command::new(self.taal);
        command
            .args(["serve", "--conversations", "none", "--runs", "none", "--queue"])
            .arg((CLIENTS * 2).to_string())
            .args(["--queue-seconds", "3600", "--slots"])
            .arg(AT_ONCE.to_string())
            .args(["--context", &Self::CONTEXT.to_string(), "--model"])
            .arg(self.model)
            .env("RAYON_NUM_THREADS", self.threads.to_string());
        started(command, "--port")
    }

    fn llama_server(&self) -> Result<Running> {
        let mut command = Command::new(self.llama_server);
        let threads = self.threads.to_string();
        command
            .arg("-m")
            .arg(self.model)
            .args(["-np", &AT_ONCE.to_string()])
            // All rows together.
            .args(["-c", &(AT_ONCE * Self::CONTEXT).to_string()])
            .args(["-t", &threads, "-tb", &threads, "--host", "127.0.0.1"]);
        started(command, "--port")
    }
}

/// Starts a server on a free port, and waits until it answers.
pub(super) fn started(mut command: Command, port: &str) -> Result<Running> {
    let free = TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?;
    command
        .arg(port)
        .arg(free.port().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let mut running = Running { child, address: free };
    let begin = Instant::now();
    loop {
        if let Some(status) = running.child.try_wait()? {
            bail!("{name} ended at once: {status}");
        }
        if asked(free, "GET", "/health", None).is_ok() {
            return Ok(running);
        }
        ensure!(begin.elapsed() < START, "{name} does not answer");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Generated tokens per second, over all clients.
fn speed(server: &Running) -> Result<f64> {
    // The first pass allocates memory.
    answered(server, u64::MAX)?;
    let begin = Instant::now();
    let tokens = thread::scope(|scope| {
        let clients = (0..CLIENTS as u64).map(|client| {
            scope.spawn(move || {
                let numbers = (0..REQUESTS as u64).map(|number| client * REQUESTS as u64 + number);
                numbers.map(|number| answered(server, number)).sum::<Result<u64>>()
            })
        });
        let clients: Vec<_> = clients.collect();
        let ended = clients.into_iter().map(|client| match client.join() {
            Ok(tokens) => tokens,
            Err(_) => bail!("a client ended unexpectedly"),
        });
        ended.sum::<Result<u64>>()
    })?;
    Ok(tokens as f64 / begin.elapsed().as_secs_f64())
}

/// Asks for one answer; returns how many tokens it has.
fn answered(server: &Running, number: u64) -> Result<u64> {
    // Prompts have nothing in common, so no server reads a part of one from its cache.
    let ids: Vec<u64> = (0..PROMPT_TOKENS as u64)
        .map(|place| scattered(number, place) % IDS)
        .collect();
    let request = json!({"prompt": ids, "max_tokens": ANSWER_TOKENS, "temperature": 1.0, "seed": number % 1_000_000,
        "ignore_eos": true, "stream": false});
    let answer = asked(server.address, "POST", "/v1/completions", Some(&request))?;
    let tokens = answer["usage"]["completion_tokens"].as_u64();
    let tokens = tokens.with_context(|| format!("an answer without its count: {answer}"))?;
    ensure!(tokens == ANSWER_TOKENS as u64, "an answer of {tokens} tokens");
    Ok(tokens)
}

/// Numbers without a pattern (SplitMix64).
fn scattered(number: u64, place: u64) -> u64 {
    let mut mixed = number
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(place.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The answer to a request, which must be 200, as JSON.
fn asked(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(
        head.starts_with("HTTP/1.1 200"),
        "{}",
        head.lines().next().unwrap_or_default()
    );
    // A body in chunks has their lengths around the object, whose answers here have no line break inside.
    let start = body.find('{').context("no JSON")?;
    let end = body.rfind('}').context("no JSON")?;
    serde_json::from_str(&body[start..=end]).context("not JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_different_requests_have_nothing_in_common() {
        let prompt = |number: u64| -> Vec<u64> { (0..8).map(|place| scattered(number, place) % IDS).collect() };
        let firsts: std::collections::BTreeSet<Vec<u64>> = (0..1000).map(prompt).collect();
        assert_eq!(firsts.len(), 1000);
        assert!(firsts.iter().flatten().all(|id| *id < IDS));
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
