//! The curves of a run.

use taal_metrics::{STEP_FIGURES, StepChart, StepFigure, StepRecord};

use super::RunPage;
use crate::chart::{Chart, Role};
use crate::curves::{Curve, axis, drawable, smooth, thin};
use crate::texts::fill;

/// An average covers this part of a run: quiet enough to read, quick enough to follow the first descent.
const SMOOTHED_PARTS: usize = 100;

/// Buckets per curve, close to what a screen resolves.
const BUCKETS_WIDE: usize = 450;
const BUCKETS_NARROW: usize = 200;

impl RunPage<'_> {
    pub(super) fn curves(&self) -> String {
        let records = self.records;
        if records.is_empty() {
            let texts = &self.language.texts().report;
            return format!("<h2>{}</h2>\n<p>{}</p>\n", texts.loss, texts.no_steps);
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
                let titles = self.titles(figure, figure.chart?);
                Some(self.small_chart(titles, &points, curves)).filter(|_| !points.is_empty())
            })
            .collect();
        let loss = self.loss_chart();
        format!("{loss}<div class=\"pair\">\n{}</div>\n", charts.concat())
    }

    /// The title of a figure's chart and what its vertical axis shows; as the figure has them where the language has no words for it.
    fn titles(&self, figure: &StepFigure, chart: StepChart) -> [&'static str; 2] {
        let known = self.language.texts().charts.iter();
        let mut known = known.filter(|(name, _)| *name == figure.name);
        known.next().map_or([chart.title, chart.y_label], |(_, titles)| *titles)
    }

    fn loss_chart(&self) -> String {
        let texts = &self.language.texts().report;
        let records = self.records;
        let train = points(records, |record| Some(record.loss));
        let validation = points(records, |record| record.val_loss);
        let span = smoothing_span(&train);
        let legend = self.legend(span, !validation.is_empty());
        let values = train.iter().chain(&validation).map(|point| point.1);
        let Some(y_axis) = axis(values.clone(), false) else {
            let note = self.not_drawn(values);
            let text = fill(texts.no_finite_loss, &[("note", &note)]);
            return format!("<h2>{}</h2>\n<p>{text}</p>\n", texts.loss);
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
                title: texts.loss_title,
                x_label: texts.step_axis,
                y_label: texts.loss_axis,
                x_axis: x_axis(records),
                y_axis,
                curves,
                numbers: self.language.numbers(),
            };
            chart.to_svg()
        };
        let wide = chart(BUCKETS_WIDE, (2080, 860), (10, 8));
        let narrow = chart(BUCKETS_NARROW, (760, 640), (4, 6));
        let note = caption(&[self.not_drawn(values.clone()), self.beyond(values, y_axis)]);
        format!(
            "<h2>{}</h2>\n<figure>\n<figcaption>{legend}</figcaption>\n<div class=\"wide\">{wide}</div>\n\
             <div class=\"narrow\">{narrow}</div>\n{note}</figure>\n",
            texts.loss
        )
    }

    fn legend(&self, span: Option<usize>, has_validation: bool) -> String {
        let texts = &self.language.texts().report;
        let entry = |class: &str, text: &str| format!("<span class=\"legend {class}\">{text}</span>");
        let mut legend = match span {
            Some(span) => {
                let average = fill(texts.legend_average, &[("span", &self.grouped(span as u64))]);
                entry("train", texts.legend_steps) + &entry("smooth", &average)
            }
            None => entry("smooth", texts.legend_steps),
        };
        if has_validation {
            legend.push_str(&entry("validation", texts.legend_validation));
        }
        legend
    }

    fn small_chart(&self, [title, y_label]: [&str; 2], points: &[(f64, f64)], curves: Vec<(Role, Curve)>) -> String {
        let values = points.iter().map(|point| point.1);
        let Some(y_axis) = axis(values.clone(), true) else {
            return format!(
                "<figure>\n<h2>{title}</h2>\n{}</figure>\n",
                caption(&[self.not_drawn(values)])
            );
        };
        let chart = Chart {
            size: (920, 520),
            font_size: 30,
            n_labels: (5, 5),
            title,
            x_label: self.language.texts().report.step_axis,
            y_label,
            x_axis: x_axis(self.records),
            y_axis,
            curves,
            numbers: self.language.numbers(),
        };
        let note = caption(&[self.not_drawn(values.clone()), self.beyond(values, y_axis)]);
        format!("<figure>\n<h2>{title}</h2>\n{}{note}</figure>\n", chart.to_svg())
    }

    /// How many values the chart leaves out.
    fn not_drawn(&self, values: impl Iterator<Item = f64>) -> String {
        let texts = &self.language.texts().report;
        let count = values.filter(|value| drawable(*value).is_none()).count();
        self.counted(count, texts.one_not_finite, texts.some_not_finite)
    }

    /// How many values the chart draws at the end of its axis.
    fn beyond(&self, values: impl Iterator<Item = f64>, (lower, upper): (f64, f64)) -> String {
        let texts = &self.language.texts().report;
        let is_beyond = |value: &f64| drawable(*value).is_some_and(|it| it < lower || it > upper);
        self.counted(values.filter(is_beyond).count(), texts.one_beyond, texts.some_beyond)
    }

    fn counted(&self, count: usize, one: &str, some: &str) -> String {
        match count {
            0 => String::new(),
            1 => one.to_owned(),
            count => fill(some, &[("count", &self.grouped(count as u64))]),
        }
    }
}

/// The steps that a moving average covers; none if the run is so short that an average says no more than its steps.
pub fn smoothing_span(points: &[(f64, f64)]) -> Option<usize> {
    let span = points.len() / SMOOTHED_PARTS;
    (span > 1).then_some(span)
}

/// Single steps are paler than their average, if there is one.
fn steps_role(span: Option<usize>) -> Role {
    if span.is_some() { Role::Train } else { Role::Smooth }
}

/// Steps and values; records without the value are left out.
fn points(records: &[StepRecord], value: impl Fn(&StepRecord) -> Option<f64>) -> Vec<(f64, f64)> {
    records
        .iter()
        .filter_map(|record| Some((record.step as f64, value(record)?)))
        .collect()
}

/// The steps without a margin, and a step wide if there is only one.
fn x_axis(records: &[StepRecord]) -> (f64, f64) {
    let steps = || records.iter().map(|record| record.step as f64);
    let first = steps().fold(f64::INFINITY, f64::min);
    let last = steps().fold(f64::NEG_INFINITY, f64::max);
    // Far from zero one step is too small a part of its number to divide.
    (first, last.max(first + (first * 1e-6).max(1.0)))
}

/// Notes below a chart; nothing without one.
fn caption(notes: &[String]) -> String {
    let notes: Vec<&str> = notes
        .iter()
        .map(String::as_str)
        .filter(|note| !note.is_empty())
        .collect();
    match notes.is_empty() {
        true => String::new(),
        false => format!("<figcaption>{}</figcaption>\n", notes.join(" ")),
    }
}
