use std::time::{Duration, SystemTime};

use taal_draw::{Language, RunPage, RunState};
use taal_metrics::energy::{EnergyFigures, PreparationFigures};
use taal_metrics::{
    AnswerFigures, AnswerMetric, AnswerScore, Forecast, ForgettingFigures, LedgerTotals, Predicted, Report, RunNote,
    Sample, SourceFigures, StepRecord, WordRank,
};

use crate::record;

fn page(report: &Report, records: &[StepRecord], recipe_toml: &str, state: RunState<'_>, language: Language) -> String {
    let page = RunPage {
        report,
        records,
        recipe_toml,
        state,
        language,
    };
    page.to_html()
}

fn html(report: &Report, records: &[StepRecord], recipe_toml: &str) -> String {
    page(report, records, recipe_toml, RunState::Finished, Language::English)
}

/// 5.37 Wh on the Dutch grid.
fn energy() -> EnergyFigures {
    EnergyFigures {
        joules: 19_332.0,
        low: 10_000.0,
        high: 36_000.0,
        source: "rapl+<estimated>".to_owned(),
        co2e_g: 1.4372,
        co2e_embodied_g: 0.25,
        grid: "NLD".to_owned(),
        g_per_kwh: 267.622,
        year: Some(2023),
        pue: 1.1,
        ..EnergyFigures::default()
    }
}

fn report() -> Report {
    Report {
        objective: "next_token".to_string(),
        val_bytes: Some(1),
        recipe: "shakespeare-char".to_owned(),
        device: "flex".to_owned(),
        params: 803_968,
        steps: 2000,
        planned_steps: 2000,
        tokens: 1_536_000,
        wall_s: 202.4,
        train_loss: 1.71,
        val_loss: Some(1.8857),
        best_val_loss: Some(1.8801),
        best_step: Some(1750),
        val_bits_per_byte: Some(2.7205),
        val_tokens: Some(111_539),
        tokens_per_s: 51_540.2,
        epochs: 1.53,
        mfu: 0.3714,
        peak_flops_per_s: 3.36e11,
        peak_rss_bytes: 512 << 20,
        energy: Some(energy()),
        resumed_from: Some(1000),
        tokenizer: "char".to_owned(),
        vocab_size: 65,
        samples: vec![Sample {
            prompt: "ROMEO:".to_owned(),
            text: "\nAy me!".to_owned(),
            error: None,
            ranks: Vec::new(),
        }],
        ..Report::default()
    }
}

/// What a reader sees: the page without tags, styles and drawings.
fn visible(page: &str) -> String {
    let body = page.split_once("<body>").expect("a body").1;
    let mut text = String::new();
    for part in body.split('<') {
        text.push_str(part.split_once('>').map_or("", |(_, rest)| rest));
    }
    text
}

/// The positions of all line points on the page, in units of their drawings.
fn coordinates(page: &str) -> Vec<(i32, i32)> {
    let lists = page
        .split("points=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let pairs = lists
        .flat_map(str::split_whitespace)
        .filter_map(|pair| pair.split_once(','));
    let parsed: Vec<_> = pairs
        .map(|(x, y)| (x.parse().expect("a number"), y.parse().expect("a number")))
        .collect();
    assert!(!parsed.is_empty(), "the page has no lines");
    parsed
}

#[test]
fn a_fine_tuned_model_has_cards_for_its_answers_and_for_what_it_forgot() {
    let score = |value, first_word| AnswerScore {
        value,
        interval: [value - 0.02, value + 0.02],
        first_word,
    };
    let tuned = Report {
        answers: Some(AnswerFigures {
            metric: AnswerMetric::ExactMatch,
            questions: 846,
            last: Some(0.2),
            best: Some(0.25),
            model: Some(score(0.25, 0.5)),
            nearest: Some(score(0.125, 0.375)),
        }),
        forgetting: Some(ForgettingFigures {
            data: "<dutch>".to_owned(),
            tokens: 16_384,
            before: 2.5,
            after: Some(2.5125),
            share: 0.1,
            budget: Some(0.02),
        }),
        ..report()
    };
    let text = visible(&html(&tuned, &[], ""));
    for part in [
        "Answers25.0 %exact_match, 95 % interval 23.0 to 27.0 %, first word right 50.0 %; 846 held-out questions",
        "Answers of the nearest training example12.5 %",
        "Loss on old data2.5125nats per token, 2.5000 before the first step: +0.0125; &lt;dutch&gt;",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // BLEU is from 0 to 100.
    let mut translated = tuned.clone();
    let answers = translated.answers.as_mut().unwrap();
    answers.metric = AnswerMetric::Bleu;
    answers.model = Some(AnswerScore {
        value: 31.25,
        interval: [30.0, 32.5],
        first_word: 0.5,
    });
    let text = visible(&html(&translated, &[], ""));
    let part = "Answers31.2bleu, 95 % interval 30.0 to 32.5, first word right 50.0 %";
    assert!(text.contains(part), "{part} is not in {text}");
}

#[test]
fn the_page_shows_figures_curves_samples_and_recipe() {
    let records: Vec<StepRecord> = (1..=300).map(record).collect();
    let page = html(&report(), &records, "seed = 1337\n");
    let text = visible(&page);
    let shown = [
        "shakespeare-char",
        "1.8857",
        "over 111,539 tokens",
        "1.8801",
        "step 1,750",
        "2.7205",
        "804 K",
        "1.54 M",
        "3 min 22 s",
        "51,540",
        "37.1 %",
        "512 MiB",
        "resumed from step 1,000",
        "loss (nats per token)",
        "validation",
        "ROMEO:",
        "Ay me!",
        "seed = 1337",
    ];
    for part in shown {
        assert!(text.contains(part), "{part:?} is not on the page");
    }
    // The loss for wide and for narrow screens, the learning rate and the gradient norm.
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(!text.contains("Interrupted"));
}

#[test]
fn the_page_says_how_a_run_ended() {
    let half = Report { steps: 500, ..report() };
    let text = |state| visible(&page(&half, &[], "", state, Language::English));
    assert!(text(RunState::Interrupted).contains("Interrupted at step 500 of 2,000"));
    assert!(text(RunState::Finished).contains("Stopped early at step 500 of 2,000"));
    let failed = text(RunState::Failed {
        error: "the disk is <full>",
    });
    assert!(failed.contains("Ended by an error after step 500 of 2,000: the disk is &lt;full&gt;"));
    assert!(!visible(&html(&report(), &[], "")).contains("step 2,000 of"));
}

#[test]
fn only_the_page_of_a_run_under_way_reloads_and_it_says_when_it_was_written() {
    let half = Report {
        steps: 500,
        tokens: 384_000,
        ..report()
    };
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_935_075);
    let live = page(&half, &[record(1)], "", RunState::Live { written }, Language::English);
    let text = visible(&live);
    assert!(
        text.contains("step 500 of 2,000 (25 %) when this page was written, 2026-11-29 06:51:15 UTC."),
        "{text}"
    );
    assert!(text.contains("About 22 s left."), "{text}");
    assert!(
        live.contains("<time id=\"written\" datetime=\"2026-11-29T06:51:15Z\">") && live.contains("location.reload()")
    );
    assert!(live.contains("<noscript><meta http-equiv=\"refresh\""));
    assert!(live.contains("<title>shakespeare-char: step 500 of 2,000 · Taal</title>"));
    for state in [
        RunState::Finished,
        RunState::Interrupted,
        RunState::Failed { error: "" },
    ] {
        let ended = page(&half, &[record(1)], "", state, Language::English);
        assert!(!ended.contains("<script") && !ended.contains("http-equiv=\"refresh\""));
    }
}

#[test]
fn a_run_before_its_first_step_has_a_page_without_figures_that_are_not_there() {
    let begun = Report {
        steps: 0,
        tokens: 0,
        train_loss: f64::NAN,
        val_loss: None,
        best_val_loss: None,
        tokens_per_s: 0.0,
        ..report()
    };
    let live = page(
        &begun,
        &[],
        "",
        RunState::Live {
            written: SystemTime::UNIX_EPOCH,
        },
        Language::English,
    );
    let text = visible(&live);
    assert!(!text.contains("not finite") && !text.contains("left."), "{text}");
}

#[test]
fn a_dutch_page_has_dutch_texts_and_numbers() {
    let records: Vec<StepRecord> = (1..=300).map(record).collect();
    let dutch = page(
        &report(),
        &records,
        "seed = 1337\n",
        RunState::Finished,
        Language::Dutch,
    );
    let text = visible(&dutch);
    for part in [
        "Validatieverlies",
        "1,8857",
        "over 111.539 tokens",
        "1,54 mln",
        "51.540",
        "37,1 %",
        "stap 1.750",
        "Leersnelheid",
        "verlies (nats per token)",
        "seed = 1337",
    ] {
        assert!(text.contains(part), "{part:?} is not on the page: {text}");
    }
    assert!(dutch.contains("<html lang=\"nl\">"));
    for english in ["Validation", "Learning", "Samples", "Written", "every step"] {
        assert!(!text.contains(english), "{english} is on the Dutch page");
    }
}

#[test]
fn the_heading_names_device_tokenizer_and_vocabulary() {
    let facts = |tokenizer: &str| {
        visible(&html(
            &Report {
                tokenizer: tokenizer.to_owned(),
                resumed_from: None,
                ..report()
            },
            &[],
            "",
        ))
    };
    assert!(facts("bpe").contains("device: flex (CPU) · tokenizer: bpe · vocabulary: 65 tokens"));
    assert!(facts("of runs/my").contains("tokenizer: that of runs/my ·"));
    assert!(facts("of the shards").contains("tokenizer: that of the token shards ·"));
}

#[test]
fn a_filled_gap_is_shown_apart_from_its_prompt() {
    let sample = Sample {
        prompt: "De [MASK] zat.".to_owned(),
        text: "De kat zat.\nkat 9.2 %".to_owned(),
        error: None,
        ranks: Vec::new(),
    };
    let masked = Report {
        objective: "masked".to_owned(),
        samples: vec![sample],
        ..report()
    };
    let page = html(&masked, &[], "");
    assert!(
        page.contains(
            "<dt>prompt</dt><dd><b>De [MASK] zat.</b></dd>\n<dt>filled</dt><dd><span>De kat zat.\nkat 9.2 %</span></dd>"
        ),
        "{page}"
    );
    assert!(page.contains("<h2>Filled gaps</h2>") && !page.contains("the model wrote the rest"));
    assert!(html(&report(), &[], "").contains("<pre><b>ROMEO:</b><span>\nAy me!</span></pre>"));
}

#[test]
fn the_page_needs_nothing_from_outside_and_forbids_it() {
    let records: Vec<StepRecord> = (1..=30).map(record).collect();
    let page = html(&report(), &records, "");
    for outside in ["<script", "<link", "<img", "@import", "url(", "href=", "src="] {
        assert!(!page.contains(outside), "{outside} on the page");
    }
    let addresses = page.matches("http://").count() + page.matches("https://").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn charts_scale_and_take_their_colors_from_the_page() {
    let records: Vec<StepRecord> = (1..=300).map(record).collect();
    let page = html(&report(), &records, "");
    let drawings = page
        .split("<svg")
        .skip(1)
        .map(|rest| rest.split("</svg>").next().unwrap_or_default());
    for drawing in drawings {
        let (opening, content) = drawing.split_once('>').expect("an opening tag");
        assert!(opening.contains("viewBox=") && !opening.contains("width="), "{opening}");
        assert!(opening.contains("aria-label="), "{opening}");
        assert!(!content.contains("\"#"), "a fixed color is left in a chart");
        assert!(content.contains("class=\"text-fill\"") && content.contains("class=\"grid-line\""));
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn what_to_know_about_the_figures_comes_first_in_the_page_s_language() {
    let report = Report {
        notes: vec![
            RunNote::LittleText {
                train_tokens: 17_600,
                params: 1_070_000,
            },
            RunNote::WorseThanGuessing {
                val_loss: 20.04,
                vocab_size: 27,
            },
            RunNote::CutExamples { cut: 1, row_tokens: 64 },
        ],
        ..report()
    };
    let page = |language| page(&report, &[record(1)], "", RunState::Finished, language);
    let english = page(Language::English);
    assert!(
        english.contains("17,600 tokens, few for 1.07 M parameters"),
        "{english}"
    );
    assert!(english.contains("ln 27 = 3.30") && english.contains("1 training example is longer"));
    assert!(english.find("17,600 tokens, few").unwrap() < english.find("<main>").unwrap());
    let dutch = page(Language::Dutch);
    assert!(dutch.contains("17.600 tokens, weinig voor") && dutch.contains("ln 27 = 3,30"));
}

#[test]
fn ranks_of_words_are_in_the_page_s_language() {
    let rank = |word: &str, rank, probability| WordRank {
        word: word.to_owned(),
        rank,
        probability,
    };
    let report = Report {
        objective: "masked".to_owned(),
        samples: vec![Sample {
            prompt: "De kat zat op de [MASK].".to_owned(),
            text: "De kat zat op de stoel.".to_owned(),
            ranks: vec![rank("mat", Some(1737), Some(0.0002)), rank("deurmat", None, None)],
            error: None,
        }],
        ..report()
    };
    let page = |language| page(&report, &[record(1)], "", RunState::Finished, language);
    let english = page(Language::English);
    assert!(
        english.contains("rank of “mat”") && english.contains("1,737 (probability 0.02 %)"),
        "{english}"
    );
    assert!(english.contains("none: it is more than one token"));
    let dutch = page(Language::Dutch);
    assert!(
        dutch.contains("rang van ‘mat’") && dutch.contains("1.737 (kans 0,02 %)"),
        "{dutch}"
    );
}

#[test]
fn energy_is_on_the_page_with_bounds_and_source_in_both_languages() {
    let english = html(&report(), &[], "");
    let said = [
        "<dt>Energy</dt><dd class=\"figure\">5.37 Wh</dd>",
        "2.78 Wh to 10.00 Wh, rapl+&lt;estimated&gt;",
        "<dd class=\"figure\">1.44 g</dd>",
        "268 g per kWh (NLD 2023), PUE 1.1",
    ];
    for words in said {
        assert!(english.contains(words), "no {words}");
    }
    let dutch = page(&report(), &[], "", RunState::Finished, Language::Dutch);
    for words in [
        "<dt>Energie</dt><dd class=\"figure\">5,37 Wh</dd>",
        "2,78 Wh tot 10,00 Wh",
        "PUE 1,1",
    ] {
        assert!(dutch.contains(words), "no {words}");
    }
}

#[test]
fn what_sensors_missed_and_what_the_preparation_took_are_on_the_page() {
    let without = html(&report(), &[], "");
    assert!(!without.contains("On the energy:") && !without.contains("before the first step"));
    let report = Report {
        energy: Some(EnergyFigures {
            preparation: Some(PreparationFigures {
                joules: 3600.0,
                low: 1800.0,
                high: 7200.0,
                seconds: 90.0,
            }),
            notes: vec![
                "the counter of <package-0> stood still".to_owned(),
                "a clock jumped".to_owned(),
                "package-0 could not be read (not there); its power so far stands in (3 times)".to_owned(),
            ],
            ..energy()
        }),
        ..report()
    };
    let english = html(&report, &[], "");
    for words in [
        "2.78 Wh to 10.00 Wh, rapl+&lt;estimated&gt;; 1.00 Wh of it in ",
        "before the first step",
        "On the energy: the counter of &lt;package-0&gt; stood still",
        "On the energy: a clock jumped",
    ] {
        assert!(english.contains(words), "no {words}");
    }
    let dutch = page(&report, &[], "", RunState::Finished, Language::Dutch);
    for words in [
        "waarvan 1,00 Wh in ",
        "Over de energie: <span lang=\"en\">a clock jumped",
        "Over de energie: package-0 kon niet worden gelezen (niet aanwezig); het vermogen tot dan toe komt ervoor in de plaats (3 keer)",
    ] {
        assert!(dutch.contains(words), "no {words}");
    }
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "</pre><script>alert(1)</script><img src=x onerror='a'>\"&amp;\0";
    let sample = Sample {
        prompt: hostile.to_owned(),
        text: hostile.to_owned(),
        error: None,
        ranks: Vec::new(),
    };
    let report = Report {
        recipe: hostile.to_owned(),
        device: hostile.to_owned(),
        tokenizer: hostile.to_owned(),
        samples: vec![sample],
        ..report()
    };
    let page = html(&report, &[record(1)], hostile);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\0'));
    let escaped =
        "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=&#39;a&#39;&gt;&quot;&amp;amp;";
    // Title, heading, device, tokenizer, prompt, text and recipe.
    assert_eq!(page.matches(escaped).count(), 7);
}

#[test]
fn runs_of_any_length_and_any_numbers_give_a_page() {
    let wild = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        1e30,
        -1e30,
        1e-300,
        4.2,
        4.2 + f64::EPSILON,
    ];
    let with = |step, number| StepRecord {
        step,
        loss: number,
        lr: number,
        grad_norm: number,
        tokens_per_s: number,
        val_loss: Some(number),
        val_bits_per_byte: Some(number),
        wall_s: Some(number),
        energy_j: Some(number),
        energy_low_j: None,
        energy_high_j: None,
        is_skipped: false,
        val_accuracy: None,
        val_answers: None,
        old_loss: None,
        val_by_source: Default::default(),
    };
    let mut runs: Vec<Vec<StepRecord>> = vec![vec![]];
    for first in wild {
        runs.push(vec![with(0, first)]);
        runs.push(vec![with(u64::MAX, first); 3]);
        for second in wild {
            runs.push(vec![with(1, first), with(2, second), with(3, first)]);
        }
    }
    runs.push(
        (0..20_000)
            .map(|step| with(step, wild[step as usize % wild.len()]))
            .collect(),
    );
    for records in runs {
        let last = records.last().cloned().unwrap_or_default();
        let report = Report {
            train_loss: last.loss,
            val_loss: last.val_loss,
            wall_s: last.loss,
            tokens_per_s: last.loss,
            mfu: last.loss,
            ..report()
        };
        let page = html(&report, &records, "");
        assert!(page.ends_with("</html>\n"));
        assert!(!page.contains("could not be drawn"));
        for wrong in ["NaN", "inf"] {
            assert!(!visible(&page).contains(wrong), "{wrong} on the page of {last:?}");
        }
    }
}

#[test]
fn values_that_the_charts_leave_out_are_counted() {
    let mut records: Vec<StepRecord> = (1..=200)
        .map(|step| StepRecord {
            loss: 2.0 + 0.001 * step as f64,
            ..record(step)
        })
        .collect();
    records[3].loss = f64::NAN;
    records[5].loss = f64::INFINITY;
    records[9].loss = 1e9;
    let page = html(&report(), &records, "");
    let text = visible(&page);
    assert!(text.contains("2 values are not finite"), "{text}");
    assert!(text.contains("1 value is beyond the axis"), "{text}");
    for (x, y) in coordinates(&page) {
        assert!(
            (0..2100).contains(&x) && (0..900).contains(&y),
            "({x}, {y}) is outside its chart"
        );
    }
}

#[test]
fn a_page_of_very_many_steps_stays_small() {
    let records: Vec<StepRecord> = (1..=200_000).map(record).collect();
    let page = html(&report(), &records, "");
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn report_25_a_peak_that_was_exceeded_makes_the_utilization_an_upper_bound() {
    let page = |peak_is_lower_bound| {
        visible(&html(
            &Report {
                mfu: 1.0,
                peak_is_lower_bound,
                ..report()
            },
            &[],
            "",
        ))
    };
    assert!(page(true).contains("at most"));
    assert!(!page(false).contains("at most"));
    assert!(
        page(false).contains("1.53 passes over the training text"),
        "{}",
        page(false)
    );
}

#[test]
fn each_source_of_the_validation_text_has_a_card_with_its_loss() {
    let source = |name: &str, loss, bits_per_byte| SourceFigures {
        name: name.to_owned(),
        loss,
        bits_per_byte,
        ..SourceFigures::default()
    };
    let report = Report {
        sources: vec![source("<wiki>", 3.5, Some(1.75)), source("news", 4.25, None)],
        ..report()
    };
    let text = visible(&html(&report, &[], ""));
    for part in [
        "Validation, &lt;wiki&gt;1.7500Bits per byte",
        "Validation, news4.2500nats per token",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(visible(&page(&report, &[], "", RunState::Finished, Language::Dutch)).contains("Validatie, news4,2500"));
}

#[test]
fn inherited_energy_and_the_graded_forecast_are_on_the_page_in_both_languages() {
    let predicted = |value: f64, half: f64, actual: Option<f64>| Predicted {
        value,
        low: value - half,
        high: value + half,
        actual,
    };
    let graded = Report {
        ledger: Some(LedgerTotals {
            trainings: 3,
            unknown: 1,
            joules: 7200.0,
            low: 3600.0,
            high: 10_800.0,
            co2e_g: 1.5,
            ..LedgerTotals::default()
        }),
        forecast: Some(Forecast {
            step: 200,
            steps: 2000,
            seconds: predicted(200.0, 20.0, Some(202.4)),
            joules: Some(predicted(3600.0, 360.0, Some(19_332.0))),
            loss: Some(predicted(1.9, 0.08, Some(1.8857))),
        }),
        ..report()
    };
    let english = page(&graded, &[], "", RunState::Finished, Language::English);
    for words in [
        "<dt>Energy in all</dt><dd class=\"figure\">2.00 Wh</dd>",
        "3 trainings, 1.00 Wh to 3.00 Wh, 1.50 g",
        "that of 1 is not known and missing",
        "<dt>Forecast</dt><dd class=\"figure\">2 / 3</dd>",
        "1.00 Wh (900.00 mWh to 1.10 Wh) wrong",
        "1.90 (1.82 to 1.98) right",
    ] {
        assert!(english.contains(words), "{words}");
    }
    let dutch = page(&graded, &[], "", RunState::Finished, Language::Dutch);
    assert!(dutch.contains("<dt>Energie in totaal</dt><dd class=\"figure\">2,00 Wh</dd>"));
    assert!(dutch.contains("<dt>Voorspelling</dt>") && dutch.contains("1,90 (1,82 tot 1,98) goed"));
    let mut early = graded;
    early.forecast = early.forecast.map(|forecast| Forecast {
        seconds: predicted(200.0, 20.0, None),
        joules: None,
        loss: None,
        ..forecast
    });
    let live = page(&early, &[], "", RunState::Interrupted, Language::English);
    assert!(
        live.contains("<dt>Forecast</dt><dd class=\"figure\">after step 200</dd>"),
        "nothing is graded yet"
    );
}
