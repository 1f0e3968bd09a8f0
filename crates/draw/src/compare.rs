//! Several runs on one page: their curves in one chart each, their figures and what differs in their recipes in tables.

use taal_metrics::StepRecord;

use crate::chart::{Chart, MAX_RUNS, Role};
use crate::curves::{Curve, axis, drawable, smooth, thin};
use crate::report::curves::smoothing_span;
use crate::{Language, Page, escape};

/// Buckets per curve, close to what a screen resolves.
const BUCKETS: usize = 400;

/// Runs next to each other.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// What each run is called, and its steps.
    pub runs: &'a [(&'a str, &'a [StepRecord])],
    /// Names of figures, and their values in each run.
    pub figures: &'a [(String, Vec<String>)],
    /// Keys of the recipes that differ, and their values in each run.
    pub keys: &'a [(String, Vec<String>)],
    /// What to know before figures are compared.
    pub notes: &'a [String],
}

/// One chart of the page: a point per step that has one, and what it shows.
struct Plot {
    title: &'static str,
    x_label: &'static str,
    y_label: &'static str,
    point: fn(&StepRecord) -> Option<(f64, f64)>,
    /// Whether steps are so noisy that their moving average is drawn instead.
    is_smoothed: bool,
}

const VALIDATION: Plot = Plot {
    title: "Validation loss",
    x_label: "step",
    y_label: "loss (nats per token)",
    point: |it| Some((it.step as f64, it.val_loss?)),
    is_smoothed: false,
};

const OTHERS: [Plot; 3] = [
    Plot {
        title: "Training loss",
        x_label: "step",
        y_label: "loss (nats per token)",
        point: |it| Some((it.step as f64, it.loss)),
        is_smoothed: true,
    },
    Plot {
        title: "Validation loss by time",
        x_label: "seconds",
        y_label: "loss (nats per token)",
        point: |it| Some((it.wall_s?, it.val_loss?)),
        is_smoothed: false,
    },
    Plot {
        title: "Bits per byte",
        x_label: "step",
        y_label: "bits per byte",
        point: |it| Some((it.step as f64, it.val_bits_per_byte?)),
        is_smoothed: false,
    },
];

impl Comparison<'_> {
    /// How many runs can be told apart in a chart.
    pub const MAX_RUNS: usize = MAX_RUNS;

    /// The page as HTML; it needs nothing but itself. Values that are not finite are left out of the curves and counted below them.
    pub fn to_html(&self) -> String {
        let names: Vec<&str> = self.runs.iter().map(|(name, _)| *name).collect();
        let title = names.join(" and ");
        let notes: String = self
            .notes
            .iter()
            .map(|note| format!("<p class=\"notice\">{}</p>\n", escape(note)))
            .collect();
        let others: String = OTHERS.iter().map(|plot| self.small(plot)).collect();
        let body = format!(
            "<header>\n<h1>{}</h1>\n<p class=\"quiet\">{} runs compared</p>\n{notes}</header>\n<main>\n{}<div class=\"pair\">\n{others}</div>\n\
             {}{}</main>\n",
            escape(&title),
            names.len(),
            self.large(&VALIDATION),
            self.table("Figures", "", self.figures),
            self.table(
                "Keys of the recipes that differ",
                "The recipes are the same.",
                self.keys
            ),
        );
        Page {
            title: &title,
            body: &body,
            language: Language::English,
            script: None,
        }
        .to_html()
    }

    fn points(&self, plot: &Plot) -> Vec<Vec<(f64, f64)>> {
        let of_run = |(_, records): &(&str, &[StepRecord])| records.iter().filter_map(plot.point).collect();
        self.runs.iter().map(of_run).collect()
    }

    /// The chart in a size, and what it leaves out; none where there is nothing to draw.
    fn chart(&self, plot: &Plot, size: (u32, u32), n_labels: (usize, usize)) -> Option<String> {
        let runs = self.points(plot);
        let all = || runs.iter().flatten();
        let x_axis = axis(all().map(|point| point.0), false)?;
        let y_axis = axis(all().map(|point| point.1), false)?;
        let curves = runs.iter().enumerate().map(|(index, points)| {
            let span = smoothing_span(points).filter(|_| plot.is_smoothed);
            let curve: Curve = match span {
                Some(span) => vec![smooth(points, span, BUCKETS)],
                None => thin(points, BUCKETS),
            };
            (Role::Run(index), curve)
        });
        let chart = Chart {
            size,
            font_size: 30,
            n_labels,
            title: plot.title,
            x_label: plot.x_label,
            y_label: plot.y_label,
            x_axis,
            y_axis,
            curves: curves.collect(),
            numbers: Language::English.texts().numbers,
        };
        Some(chart.to_svg())
    }

    fn large(&self, plot: &Plot) -> String {
        let wide = self.chart(plot, (2080, 860), (10, 8));
        let narrow = self.chart(plot, (760, 640), (4, 6));
        let drawing = match (wide, narrow) {
            (Some(wide), Some(narrow)) => {
                format!("<div class=\"wide\">{wide}</div>\n<div class=\"narrow\">{narrow}</div>\n")
            }
            _ => "<p>No run was evaluated.</p>\n".to_owned(),
        };
        format!(
            "<h2>{}</h2>\n<figure>\n<figcaption>{}</figcaption>\n{drawing}{}</figure>\n",
            plot.title,
            self.legend(),
            self.left_out(plot)
        )
    }

    fn small(&self, plot: &Plot) -> String {
        let average = match plot.is_smoothed {
            true => "<p class=\"quiet\">Moving average, where a run is long enough for one.</p>\n",
            false => "",
        };
        let Some(drawing) = self.chart(plot, (920, 520), (5, 5)) else {
            return String::new();
        };
        format!(
            "<figure>\n<h2>{}</h2>\n{average}{drawing}{}</figure>\n",
            plot.title,
            self.left_out(plot)
        )
    }

    fn left_out(&self, plot: &Plot) -> String {
        let runs = self.points(plot);
        match runs
            .iter()
            .flatten()
            .filter(|point| drawable(point.1).is_none())
            .count()
        {
            0 => String::new(),
            1 => "<figcaption>1 value is not finite and not drawn.</figcaption>\n".to_owned(),
            count => format!("<figcaption>{count} values are not finite and not drawn.</figcaption>\n"),
        }
    }

    fn legend(&self) -> String {
        let name = |(index, (name, _)): (usize, &(&str, &[StepRecord]))| {
            format!("<span class=\"legend run{index}\">{}</span>", escape(name))
        };
        self.runs.iter().enumerate().map(name).collect()
    }

    fn table(&self, title: &str, otherwise: &str, rows: &[(String, Vec<String>)]) -> String {
        if rows.is_empty() && otherwise.is_empty() {
            return String::new();
        }
        if rows.is_empty() {
            return format!("<h2>{title}</h2>\n<p>{otherwise}</p>\n");
        }
        let cells = |kind: &str, texts: &mut dyn Iterator<Item = &str>| -> String {
            texts
                .map(|text| format!("<{kind}>{}</{}>", escape(text), &kind[..2]))
                .collect()
        };
        let head = cells("th scope=\"col\"", &mut self.runs.iter().map(|(name, _)| *name));
        let body: String = rows
            .iter()
            .map(|(name, values)| {
                let values = cells("td", &mut values.iter().map(String::as_str));
                format!("<tr><th scope=\"row\">{}</th>{values}</tr>\n", escape(name))
            })
            .collect();
        format!(
            "<h2>{title}</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n<table>\n\
             <thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>\n"
        )
    }
}
