//! The energy of answers, and models that are replaced while they are served.

use std::io::Read;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use taal_inference::{EngineOptions, LanguageModel};
use taal_metrics::energy::{FakeMachine, FakeZone, Grid, MeterOptions};
use taal_server::{ServedModel, Server};

use crate::client::{connect, get, post, read_events};
use crate::stopping::ask;
use crate::tiny::{Running, causal, endless, options, run};

const PATH: &str = "/v1/completions";

fn metered(machine: &FakeMachine) -> Running {
    let model = ServedModel::start("endless", endless(), EngineOptions::default()).expect("a model");
    let server = Server::bind(vec![model], options()).expect("an address");
    run(
        server.metered(machine.meter(MeterOptions::default()), Grid::world(), 1.2),
        Vec::new(),
    )
}

#[test]
fn an_answer_says_the_energy_that_it_took_and_the_figures_the_total() {
    let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 10.0));
    let server = metered(&machine);
    let mut stream = ask(server.address, 3000);
    read_events(&mut stream, 1);
    machine.pass(10.0, 1.0, 0.0);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the rest");
    let usage = rest.lines().filter_map(|line| line.strip_prefix("data: {")).next_back();
    let usage: Value = serde_json::from_str(&format!("{{{}", usage.expect("an event"))).expect("JSON");
    let carbon = &usage["usage"]["carbon"];
    let joules = carbon["joules"].as_f64().unwrap_or_else(|| panic!("{usage}"));
    // The processor's 10 W for 10 s, and an estimate of the memory's.
    assert!((99.0..200.0).contains(&joules), "{carbon}");
    assert!(
        carbon["low"].as_f64() < Some(joules) && carbon["high"].as_f64() > Some(joules),
        "{carbon}"
    );
    assert!(
        carbon["source"].as_str().is_some_and(|source| source.contains("rapl")),
        "{carbon}"
    );
    // European providers' keys, and the joules and their source next to them.
    assert_eq!(usage["usage"]["joules"], carbon["joules"]);
    assert_eq!(usage["usage"]["source"], carbon["source"]);
    let bound = |path: &str| {
        carbon
            .pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{carbon}"))
    };
    let [low, high] = ["low", "high"].map(|name| carbon[name].as_f64().expect("a number"));
    for (found, joules) in [(bound("/kWh/min"), low), (bound("/kWh/max"), high)] {
        assert!((found / (joules / 3.6e6) - 1.0).abs() < 1e-9, "{carbon}");
    }
    assert!(
        (bound("/kgCO2eq/max") / (high / 3.6e6 * 0.475 * 1.2) - 1.0).abs() < 1e-9,
        "{carbon}"
    );
    let grams = carbon["co2e_g"].as_f64().expect("a number");
    assert!((grams - joules / 3.6e6 * 475.0 * 1.2).abs() < 1e-9, "{carbon}");
    let figures = get(server.address, "/metrics").body;
    let total = figures
        .lines()
        .find_map(|line| line.strip_prefix("taal_energy_joules_total{source="))
        .and_then(|line| line.split(' ').next_back()?.parse::<f64>().ok());
    assert!((total.expect("a figure") - joules).abs() < 1e-6 * joules, "{figures}");
    // Without time there is no energy.
    let reply = post(server.address, PATH, &json!({"prompt": "a", "max_tokens": 2})).json();
    assert_eq!(reply["usage"]["carbon"]["joules"], 0.0, "{reply}");
}

#[test]
fn vectors_say_their_energy_too() {
    let machine = FakeMachine::new();
    let model = ServedModel::start("causal", causal(), EngineOptions::default()).expect("a model");
    let server = Server::bind(vec![model], options()).expect("an address");
    let meter = machine.meter(MeterOptions::default());
    let server = run(server.metered(meter, Grid::world(), 1.0), Vec::new());
    let reply = post(server.address, "/v1/embeddings", &json!({"input": "a"})).json();
    let usage = &reply["usage"];
    // Time stands still on this machine.
    assert_eq!(usage["joules"], 0.0, "{reply}");
    assert!(
        usage["source"].is_string() && usage["carbon"]["kWh"]["max"].is_number(),
        "{reply}"
    );
    assert!(usage["prompt_tokens"].as_u64() > Some(0), "{reply}");
}

#[test]
fn a_server_without_a_meter_says_nothing_about_energy() {
    let server = crate::tiny::server();
    let reply = post(server.address, PATH, &json!({"prompt": "a", "max_tokens": 2})).json();
    assert!(reply["usage"].get("carbon").is_none(), "{reply}");
    assert!(!get(server.address, "/metrics").body.contains("energy"));
}

#[test]
fn a_newer_model_answers_the_next_request_and_not_the_one_under_way() {
    let next: Arc<Mutex<Option<Arc<LanguageModel>>>> = Arc::default();
    let waiting = next.clone();
    let model = ServedModel::start("run", endless(), EngineOptions::default()).expect("a model");
    let model = model.renewed_by(move || waiting.lock().expect("no panic").take());
    let server = run(Server::bind(vec![model], options()).expect("an address"), Vec::new());
    let context = || get(server.address, "/v1/models/run").json()["max_model_len"].clone();
    let mut stream = ask(server.address, 3000);
    let mut text = read_events(&mut stream, 1);
    assert!(context().is_null());
    *next.lock().expect("no panic") = Some(causal());
    // It is looked for once per second.
    crate::tiny::until(|| {
        post(server.address, PATH, &json!({"prompt": "a", "max_tokens": 1}));
        context() == crate::tiny::CONTEXT
    });
    stream.read_to_string(&mut text).expect("the rest");
    assert!(
        text.contains("[DONE]") && text.contains("\"completion_tokens\":3000"),
        "the answer under way is whole"
    );
    drop(connect(server.address));
}
