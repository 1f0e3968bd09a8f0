//! A run as one self-contained page: no script, no network, light and dark, from a phone's width to a desk's.

use taal_metrics::{GuessFigures, Report, STEP_FIGURES, StepChart, StepRecord, perplexity};

use crate::chart::{Chart, Role};
use crate::curves::{Curve, axis, drawable, smooth, thin};
use crate::{Page, escape};

/// An average covers this part of a run: quiet enough to read, quick enough to follow the first descent.
const SMOOTHED_PARTS: usize = 100;

/// What a card shows for infinity and not-a-number.
const NOT_FINITE: &str = "not finite";

/// Buckets a curve, close to what a screen resolves.
const BUCKETS_WIDE: usize = 450;
const BUCKETS_NARROW: usize = 200;

/// Writes a run as one HTML page: key figures, loss curve, learning rate and gradient norm, samples and recipe.
///
/// The page needs nothing beside it and allows itself no network. All text is escaped; values that are not finite are left out of the
/// curves and counted below them.
pub fn report(report: &Report, records: &[StepRecord], recipe_toml: &str) -> String {
    let recipe = if report.recipe.is_empty() {
        "A run"
    } else {
        &report.recipe
    };
    let body = format!(
        "<header>\n{}</header>\n<main>\n{}{}{}{}</main>\n",
        heading(report, recipe),
        key_figures(report),
        curves(records),
        samples(report),
        recipe_details(recipe_toml)
    );
    Page {
        title: recipe,
        body: &body,
        script: None,
    }
    .to_html()
}

fn heading(report: &Report, recipe: &str) -> String {
    let mut facts = Vec::new();
    if !report.device.is_empty() {
        facts.push(format!("trained on {}", escape(&report.device)));
    }
    if !report.tokenizer.is_empty() {
        facts.push(format!("{} tokenizer", escape(&report.tokenizer)));
    }
    if report.vocab_size > 0 {
        facts.push(format!("{} entries in its vocabulary", grouped(report.vocab_size)));
    }
    if let Some(step) = report.resumed_from {
        facts.push(format!("last resumed from step {}", grouped(step)));
    }
    let notice = if report.steps < report.planned_steps {
        format!(
            "<p class=\"notice\">Interrupted at step {} of {}; <code>--resume</code> goes on from there.</p>\n",
            grouped(report.steps),
            grouped(report.planned_steps)
        )
    } else {
        String::new()
    };
    let facts = facts.join(" · ");
    format!("<h1>{}</h1>\n<p class=\"quiet\">{facts}</p>\n{notice}", escape(recipe))
}

/// The figures as cards; those that were not measured are left out.
fn key_figures(report: &Report) -> String {
    let mut cards = String::new();
    let mut card = |label: &str, figure: String, note: String| {
        let note = if note.is_empty() {
            note
        } else {
            format!("<dd class=\"note\">{note}</dd>")
        };
        cards.push_str(&format!(
            "<div><dt>{label}</dt><dd class=\"figure\">{figure}</dd>{note}</div>\n"
        ));
    };
    if let Some(loss) = report.val_loss {
        let over = report
            .val_tokens
            .map(|tokens| format!(", over {} tokens", grouped(tokens)));
        let note = format!("nats a token{}", over.unwrap_or_default());
        card("Validation loss", decimals(loss, 4), note);
        card(
            "Perplexity",
            significant(perplexity(loss)),
            "on the validation split".to_owned(),
        );
    }
    if let Some(loss) = report.best_val_loss {
        let at = report.best_step.map(|step| format!(" at step {}", grouped(step)));
        card(
            "Best validation loss",
            decimals(loss, 4),
            format!("nats a token{}", at.unwrap_or_default()),
        );
    }
    if let Some(bits) = report.val_bits_per_byte {
        card("Bits per byte", decimals(bits, 4), "on the validation split".to_owned());
    }
    if let Some(masked) = &report.masked {
        let share = |figures: &GuessFigures| format!("{:.1} %", 100.0 * figures.accuracy);
        let [low, high] = masked.model.accuracy_interval;
        card(
            "Hidden tokens guessed",
            share(&masked.model),
            format!(
                "95 % interval {:.1} to {:.1} %; by counting neighbours {}, always the commonest {}",
                100.0 * low,
                100.0 * high,
                share(&masked.neighbours),
                share(&masked.unigram)
            ),
        );
    }
    card(
        "Training loss",
        decimals(report.train_loss, 4),
        "nats a token, last step".to_owned(),
    );
    card("Parameters", counted(report.params), String::new());
    card("Steps", grouped(report.steps), String::new());
    let epochs = match report.epochs {
        epochs if epochs.is_finite() && epochs > 0.0 => format!("{} times the training text", significant(epochs)),
        _ => String::new(),
    };
    card("Training tokens", counted(report.tokens), epochs);
    card("Time", duration(report.wall_s), String::new());
    card("Speed", significant(report.tokens_per_s), "tokens a second".to_owned());
    let per_cent = report.mfu * 100.0;
    let share = if per_cent.is_finite() {
        format!("{per_cent:.1} %")
    } else {
        NOT_FINITE.to_owned()
    };
    let over = match report.peak_is_lower_bound {
        true => "at most: model FLOPs over the fastest step's, which was faster than the measured peak",
        false => "model FLOPs over the measured peak",
    };
    card("Utilisation", share, over.to_owned());
    if report.peak_rss_bytes > 0 {
        card("Peak memory", bytes(report.peak_rss_bytes), String::new());
    }
    for (label, value, unit) in report.figure_rows() {
        card(label, significant(value), unit.to_owned());
    }
    format!("<dl class=\"figures\">\n{cards}</dl>\n")
}

fn curves(records: &[StepRecord]) -> String {
    if records.is_empty() {
        return "<h2>Loss</h2>\n<p>No steps were recorded.</p>\n".to_owned();
    }
    let charts: Vec<String> = STEP_FIGURES
        .iter()
        .filter_map(|figure| {
            let points = points(records, figure.value);
            let span = smoothing_span(&points).filter(|_| figure.chart.is_some_and(|chart| chart.is_smoothed));
            let mut curves = vec![(steps_role(span), thin(&points, BUCKETS_NARROW))];
            if let Some(span) = span {
                curves.push((Role::Smooth, vec![smooth(&points, span, BUCKETS_NARROW)]));
            }
            Some(small_chart(records, figure.chart?, &points, curves)).filter(|_| !points.is_empty())
        })
        .collect();
    let loss = loss_chart(records);
    format!("{loss}<div class=\"pair\">\n{}</div>\n", charts.concat())
}

/// The steps that a moving average covers; none where a run is so short that an average says no more than its steps.
fn smoothing_span(points: &[(f64, f64)]) -> Option<usize> {
    let span = points.len() / SMOOTHED_PARTS;
    (span > 1).then_some(span)
}

/// Single steps stand back behind their average, where there is one.
fn steps_role(span: Option<usize>) -> Role {
    if span.is_some() { Role::Train } else { Role::Smooth }
}

fn loss_chart(records: &[StepRecord]) -> String {
    let train = points(records, |record| Some(record.loss));
    let validation = points(records, |record| record.val_loss);
    let span = smoothing_span(&train);
    let steps_class = if span.is_some() { "train" } else { "smooth" };
    let mut legend = format!("<span class=\"legend {steps_class}\">training, every step</span>");
    if let Some(span) = span {
        legend.push_str(&format!(
            "<span class=\"legend smooth\">training, moving average over {span} steps</span>"
        ));
    }
    if !validation.is_empty() {
        legend.push_str("<span class=\"legend validation\">validation</span>");
    }
    let values = train.iter().chain(&validation).map(|point| point.1);
    let Some(y_axis) = axis(values.clone(), false) else {
        return format!("<h2>Loss</h2>\n<p>No loss was finite. {}</p>\n", not_drawn(values));
    };
    let chart = |n_buckets: usize, size, n_labels| {
        let mut curves: Vec<(Role, Curve)> = vec![(steps_role(span), thin(&train, n_buckets))];
        if let Some(span) = span {
            curves.push((Role::Smooth, vec![smooth(&train, span, n_buckets)]));
        }
        curves.push((Role::Validation, thin(&validation, n_buckets)));
        let chart = Chart {
            size,
            font_size: 30,
            n_labels,
            title: "Loss by step",
            x_label: "step",
            y_label: "loss (nats a token)",
            x_axis: x_axis(records),
            y_axis,
            curves,
        };
        chart.to_svg()
    };
    let wide = chart(BUCKETS_WIDE, (2080, 860), (10, 8));
    let narrow = chart(BUCKETS_NARROW, (760, 640), (4, 6));
    let note = [not_drawn(values.clone()), beyond(values, y_axis)].concat();
    format!(
        "<h2>Loss</h2>\n<figure>\n<figcaption>{legend}</figcaption>\n<div class=\"wide\">{wide}</div>\n\
         <div class=\"narrow\">{narrow}</div>\n{}</figure>\n",
        caption(&note)
    )
}

fn small_chart(records: &[StepRecord], chart: StepChart, points: &[(f64, f64)], curves: Vec<(Role, Curve)>) -> String {
    let StepChart { title, y_label, .. } = chart;
    let values = points.iter().map(|point| point.1);
    let Some(y_axis) = axis(values.clone(), true) else {
        return format!("<figure>\n<h2>{title}</h2>\n{}</figure>\n", caption(&not_drawn(values)));
    };
    let chart = Chart {
        size: (920, 520),
        font_size: 30,
        n_labels: (5, 5),
        title,
        x_label: "step",
        y_label,
        x_axis: x_axis(records),
        y_axis,
        curves,
    };
    let note = [not_drawn(values.clone()), beyond(values, y_axis)].concat();
    format!(
        "<figure>\n<h2>{title}</h2>\n{}{}</figure>\n",
        chart.to_svg(),
        caption(&note)
    )
}

/// Steps and values; records without the value are left out.
fn points(records: &[StepRecord], value: impl Fn(&StepRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    records
        .iter()
        .filter_map(|record| Some((record.step as f64, value(record)?)))
        .collect()
}

/// The steps without a margin, and a step wide where there is only one.
fn x_axis(records: &[StepRecord]) -> (f64, f64) {
    let steps = || records.iter().map(|record| record.step as f64);
    let first = steps().fold(f64::INFINITY, f64::min);
    let last = steps().fold(f64::NEG_INFINITY, f64::max);
    // Far from zero one step is too small a part of its number to divide.
    (first, last.max(first + (first * 1e-6).max(1.0)))
}

fn caption(note: &str) -> String {
    if note.is_empty() {
        return String::new();
    }
    format!("<figcaption>{}</figcaption>\n", note.trim_end())
}

/// How many values the chart leaves out.
fn not_drawn(values: impl Iterator<Item = f64>) -> String {
    match values.filter(|value| drawable(*value).is_none()).count() {
        0 => String::new(),
        1 => "1 value is not finite and not drawn. ".to_owned(),
        count => format!("{count} values are not finite and not drawn. "),
    }
}

/// How many values the chart draws at the end of its axis.
fn beyond(values: impl Iterator<Item = f64>, (lower, upper): (f64, f64)) -> String {
    let is_beyond = |value: &f64| drawable(*value).is_some_and(|it| it < lower || it > upper);
    match values.filter(is_beyond).count() {
        0 => String::new(),
        1 => "1 value lies beyond the axis and is drawn at its end. ".to_owned(),
        count => format!("{count} values lie beyond the axis and are drawn at its end. "),
    }
}

fn samples(report: &Report) -> String {
    if report.samples.is_empty() {
        return String::new();
    }
    let mut section = String::from("<h2>What it writes</h2>\n");
    for sample in &report.samples {
        // The span keeps a line break at the start, which <pre> would swallow.
        section.push_str(&format!(
            "<pre><b>{}</b><span>{}</span></pre>\n",
            escape(&sample.prompt),
            escape(sample.error.as_ref().unwrap_or(&sample.text))
        ));
    }
    section
}

fn recipe_details(recipe_toml: &str) -> String {
    if recipe_toml.is_empty() {
        return String::new();
    }
    let recipe = escape(recipe_toml.trim_end());
    format!("<details>\n<summary>Recipe</summary>\n<pre><code>{recipe}</code></pre>\n</details>\n")
}

/// A number with a fixed number of decimals; words where it is not finite.
fn decimals(value: f64, n_decimals: usize) -> String {
    if value.is_finite() {
        format!("{value:.n_decimals$}")
    } else {
        NOT_FINITE.to_owned()
    }
}

/// A number with three to four digits that matter.
fn significant(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => NOT_FINITE.to_owned(),
        size if size >= 1e15 => format!("{value:.2e}"),
        // Below 2^53, so the conversion is exact after rounding.
        size if size >= 1000.0 && value > 0.0 => grouped(value.round() as u64),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number in thousands, millions or billions.
fn counted(number: u64) -> String {
    let value = number as f64;
    match number {
        0..10_000 => grouped(number),
        10_000..1_000_000 => format!("{:.0} K", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", value / 1e6),
        _ => format!("{:.2} B", value / 1e9),
    }
}

fn bytes(number: u64) -> String {
    const MEBIBYTE: f64 = 1024.0 * 1024.0;
    let mebibytes = number as f64 / MEBIBYTE;
    if mebibytes < 1024.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{:.2} GiB", mebibytes / 1024.0)
    }
}

fn duration(seconds: f64) -> String {
    // Beyond 1e9 seconds (30 years) something is wrong with the number.
    if !(0.0..1e9).contains(&seconds) {
        return NOT_FINITE.to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}
