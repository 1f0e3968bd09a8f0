//! A map of texts: points of a plane with their names, as an SVG file or a self-contained page.

use taal_metrics::Projection;

use crate::labels::{Label, LabelStyle, Room};
use crate::numbers::AxisNumbers;
use crate::page::PICTURE_STYLE;
use crate::texts::fill;
use crate::{Language, Page, escape};

/// The part of the top margin that is for the title; a page has a heading instead.
const TITLE_HEIGHT: f64 = 62.0;
const DOT_RADIUS: f64 = 4.5;
const FONT_SIZE: f64 = 15.0;
const STYLE: LabelStyle = LabelStyle {
    font_size: FONT_SIZE,
    dot_radius: DOT_RADIUS,
};
/// Longer names are cut in the drawing and whole in the table.
const MAX_LABEL_CHARS: usize = 36;
/// About how far apart the numbers of an axis are.
const TICK_DISTANCE: f64 = 115.0;

/// A drawing, in units of its own.
#[derive(Debug, Clone, Copy)]
struct Canvas {
    name: &'static str,
    width: f64,
    height: f64,
    /// The space around the frame: left, top, right, bottom.
    margin: [f64; 4],
    labels: Labels,
}

/// How the points of a drawing are labeled if not every name has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Labels {
    /// Names; those without room are counted.
    Names,
    /// Names, and numbers for those without room.
    NamesAndNumbers,
    /// Numbers only.
    Numbers,
}

const WIDE: Canvas = Canvas {
    name: "wide",
    width: 1000.0,
    height: 760.0,
    margin: [64.0, 76.0, 20.0, 72.0],
    labels: Labels::NamesAndNumbers,
};

/// For a phone, where the names of the wide one would be too small to read.
const NARROW: Canvas = Canvas {
    name: "narrow",
    width: 420.0,
    height: 640.0,
    margin: [60.0, 70.0, 6.0, 72.0],
    labels: Labels::Numbers,
};

impl Canvas {
    /// Left, top, right and bottom of the frame.
    fn frame(&self) -> [f64; 4] {
        let [left, top, right, bottom] = self.margin;
        [left, top, self.width - right, self.height - bottom]
    }
}

/// What a map shows.
#[derive(Debug, Clone, PartialEq)]
pub struct WordMap {
    /// Its title.
    pub title: String,
    /// One sentence about where the points come from.
    pub note: String,
    /// What the axes show, with their share in words: `component 1 (41.2 % of the variance)`.
    pub axes: [String; 2],
    /// The names of the points.
    pub labels: Vec<String>,
    /// The points; those without a name, or with a number that is not finite, are left out.
    pub points: Vec<[f64; 2]>,
    /// The language of the page's own texts, and of its numbers.
    pub language: Language,
}

/// Where the points of a map come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSource<'a> {
    /// The model whose vectors they are.
    pub model: &'a str,
    /// Whether they are words rather than longer texts.
    pub has_words: bool,
    /// How the states of tokens became one vector, if it was not left to the model.
    pub pooling: Option<&'a str>,
}

impl WordMap {
    /// A map of vectors on their two principal components.
    pub fn of_projection(
        source: MapSource<'_>,
        labels: Vec<String>,
        projection: &Projection,
        language: Language,
    ) -> Self {
        let (texts, numbers) = (&language.texts().map, language.numbers());
        let [first, second] = projection.shares;
        let title = match source.has_words {
            true => texts.words_by,
            false => texts.texts_by,
        };
        let pooling = source
            .pooling
            .map_or_else(String::new, |pooling| fill(texts.pooling, &[("pooling", pooling)]));
        let axis = |number: &str, share| {
            let values = [("number", number), ("share", &numbers.percent(share))];
            fill(texts.component, &values)
        };
        Self {
            title: fill(
                title,
                &[
                    ("count", &numbers.grouped(labels.len() as u64)),
                    ("model", source.model),
                ],
            ),
            note: fill(
                texts.projected,
                &[("pooling", &pooling), ("share", &numbers.percent(first + second))],
            ),
            axes: [axis("1", first), axis("2", second)],
            labels,
            points: projection.points.clone(),
            language,
        }
    }

    /// The map as an SVG file: light and dark, with its title, and with all coordinates in its description.
    pub fn svg(&self) -> String {
        let numbers = self.numbers();
        let rows: Vec<String> = self
            .named()
            .map(|(label, [x, y])| format!("{label}: {}, {}", numbers.text(x), numbers.text(y)))
            .collect();
        let Canvas {
            width, height, margin, ..
        } = WIDE;
        let left = margin[0];
        let description = format!("{} {}.", self.description(), escape(&rows.join("; ")));
        // A file has no list to look numbers up in.
        let canvas = Canvas {
            labels: Labels::Names,
            ..WIDE
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" {}<style>\n{PICTURE_STYLE}</style>\n\
             <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"{left}\" y=\"32\">{}</text>\n<text class=\"axis\" x=\"{left}\" y=\"56\">{}</text>\n{}</svg>\n",
            self.opening(&canvas, 0.0, &description),
            shown(&self.title),
            shown(&self.note),
            self.drawing(&canvas).0
        )
    }

    /// The map as an HTML page: light and dark, the drawing and a table of its coordinates. It refers to nothing outside.
    ///
    /// Points whose name has no room are numbered, and listed below the drawing; in the drawing for phones all are if one is.
    pub fn html(&self) -> String {
        let texts = &self.language.texts().map;
        let numbers = self.numbers();
        let rows: String = self
            .named()
            .map(|(label, [x, y])| {
                format!(
                    "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>\n",
                    shown(&label),
                    numbers.text(x),
                    numbers.text(y)
                )
            })
            .collect();
        let description = format!("{} {}", self.description(), texts.has_table);
        let drawing = |canvas: &Canvas| {
            let opening = self.opening(canvas, TITLE_HEIGHT, &description);
            let (drawing, numbered) = self.drawing(canvas);
            format!(
                "<div class=\"{}\"><svg {opening}{drawing}</svg>\n{}</div>\n",
                canvas.name,
                self.key(&numbered)
            )
        };
        let drawings = [WIDE, NARROW].each_ref().map(drawing).concat();
        let body = format!(
            "<header>\n<h1>{}</h1>\n<p class=\"quiet\">{}</p>\n</header>\n<main>\n\
             <figure>\n{drawings}</figure>\n<details>\n<summary>{}</summary>\n<table>\n\
             <thead><tr><th scope=\"col\">{}</th><th scope=\"col\">{}</th><th scope=\"col\">{}</th></tr></thead>\n\
             <tbody>\n{rows}</tbody>\n</table>\n</details>\n</main>\n",
            shown(&self.title),
            shown(&self.note),
            texts.coordinates,
            texts.text,
            texts.across,
            texts.upwards
        );
        Page {
            title: &self.title,
            body: &body,
            language: self.language,
            script: None,
        }
        .to_html()
    }

    /// The list of the points that have a number instead of a name.
    fn key(&self, numbered: &[usize]) -> String {
        if numbered.is_empty() {
            return String::new();
        }
        let named: Vec<(String, [f64; 2])> = self.named().collect();
        let rows: String = numbered
            .iter()
            .map(|index| format!("<li value=\"{}\">{}</li>\n", index + 1, shown(&named[*index].0)))
            .collect();
        let title = self.language.texts().map.numbered;
        format!("<h2>{title}</h2>\n<ol class=\"key\">\n{rows}</ol>\n")
    }

    /// All coordinates in one notation.
    fn numbers(&self) -> AxisNumbers {
        let values = || self.named().flat_map(|(_, point)| point);
        let ends = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
        self.language.numbers().axis(ends)
    }

    /// Names and points that can be drawn.
    fn named(&self) -> impl Iterator<Item = (String, [f64; 2])> {
        let pairs = self.labels.iter().zip(&self.points);
        pairs
            .filter(|(_, point)| point.iter().all(|value| value.abs() < 1e30))
            .map(|(label, point)| (one_line(label), *point))
    }

    fn description(&self) -> String {
        let [x, y] = self.axes.each_ref().map(|axis| shown(axis));
        let count = self.named().count().to_string();
        fill(
            self.language.texts().map.description,
            &[("count", &count), ("x", &x), ("y", &y), ("note", &shown(&self.note))],
        )
    }

    /// The attributes of the `<svg` tag for a drawing that begins at `top`, with title and description.
    fn opening(&self, canvas: &Canvas, top: f64, description: &str) -> String {
        let Canvas {
            name, width, height, ..
        } = canvas;
        format!(
            "viewBox=\"0 {top} {width} {}\" class=\"map\" role=\"img\" aria-labelledby=\"{name}-title {name}-desc\">\n\
             <title id=\"{name}-title\">{}</title>\n<desc id=\"{name}-desc\">{description}</desc>\n",
            height - top,
            shown(&self.title)
        )
    }

    /// Axes, points and names, and the indices of the points that have a number.
    fn drawing(&self, canvas: &Canvas) -> (String, Vec<usize>) {
        let named: Vec<(String, [f64; 2])> = self.named().collect();
        let frame = Frame::around(*canvas, named.iter().map(|(_, point)| *point));
        let mut text = self.axes_around(&frame);
        let dots: Vec<[f64; 2]> = named.iter().map(|(_, point)| frame.place(*point)).collect();
        let names: Vec<String> = named.iter().map(|(label, _)| shortened(label)).collect();
        let (labels, numbered) = labels_of(canvas, &dots, &names);
        for (label, dot) in labels.iter().zip(&dots) {
            if let Some(Label { leader: Some(end), .. }) = label {
                text.push_str(&format!(
                    "<line class=\"leader\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\n",
                    dot[0], dot[1], end[0], end[1]
                ));
            }
        }
        let numbers = self.numbers();
        for (label, ((full, point), dot)) in labels.iter().zip(named.iter().zip(&dots)) {
            text.push_str(&format!(
                "<g><title>{} ({}, {})</title><circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{DOT_RADIUS}\"/>",
                shown(full),
                numbers.text(point[0]),
                numbers.text(point[1]),
                dot[0],
                dot[1]
            ));
            if let Some(label) = label {
                text.push_str(&format!(
                    "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{}</text>",
                    label.x,
                    label.area.bottom - 0.28 * FONT_SIZE,
                    label.anchor,
                    shown(&label.text)
                ));
            }
            text.push_str("</g>\n");
        }
        let hidden = labels.iter().filter(|label| label.is_none()).count();
        if hidden > 0 {
            text.push_str(&format!(
                "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                canvas.width - canvas.margin[2],
                canvas.height - 8.0,
                fill(
                    self.language.texts().map.without_room,
                    &[("count", &hidden.to_string())]
                )
            ));
        }
        (text, numbered)
    }

    /// Frame, ticks and the names of the axes.
    fn axes_around(&self, frame: &Frame) -> String {
        let [left, top, right, bottom] = frame.canvas.frame();
        let numbers = [0, 1].map(|axis| self.language.numbers().axis((frame.low[axis], frame.high[axis])));
        let mut text = format!(
            "<rect class=\"frame\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\"/>\n",
            right - left,
            bottom - top
        );
        for value in ticks(frame.low[0], frame.high[0], (right - left) / TICK_DISTANCE) {
            let x = frame.place([value, 0.0])[0];
            text.push_str(&format!(
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\n\
                 <text class=\"axis\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                bottom + 18.0,
                numbers[0].text(value)
            ));
        }
        for value in ticks(frame.low[1], frame.high[1], (bottom - top) / TICK_DISTANCE) {
            let y = frame.place([0.0, value])[1];
            text.push_str(&format!(
                "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\n\
                 <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                left - 6.0,
                y + 4.5,
                numbers[1].text(value)
            ));
        }
        let [x, y] = self.axes.each_ref().map(|axis| shown(axis));
        let middle = (top + bottom) / 2.0;
        text.push_str(&format!(
            "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x}</text>\n\
             <text class=\"axis\" x=\"16\" y=\"{middle:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {middle:.1})\">{y}</text>\n",
            (left + right) / 2.0,
            bottom + 42.0
        ));
        text
    }
}

/// The part of the plane that is drawn. Both axes have the same scale, because a map is for comparing distances.
struct Frame {
    canvas: Canvas,
    low: [f64; 2],
    high: [f64; 2],
}

impl Frame {
    fn around(canvas: Canvas, points: impl Iterator<Item = [f64; 2]>) -> Self {
        let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
        for point in points {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let [left, top, right, bottom] = canvas.frame();
        let sizes = [right - left, bottom - top];
        if low.iter().any(|value| !value.is_finite()) {
            (low, high) = ([0.0; 2], [0.0; 2]);
        }
        // Names need room next to the outermost dots.
        let wanted = [0, 1].map(|axis| 1.16 * (high[axis] - low[axis]) / sizes[axis]);
        let unit = wanted[0].max(wanted[1]);
        let far = low.iter().chain(&high).fold(0.0_f64, |far, value| far.max(value.abs()));
        let unit = if unit > 1e-9 * far {
            unit
        } else {
            (2.0 * far).max(1.0) / sizes[1]
        };
        let middle = [0, 1].map(|axis| (low[axis] + high[axis]) / 2.0);
        Self {
            canvas,
            low: [0, 1].map(|axis| middle[axis] - unit * sizes[axis] / 2.0),
            high: [0, 1].map(|axis| middle[axis] + unit * sizes[axis] / 2.0),
        }
    }

    /// From the plane to the drawing.
    fn place(&self, point: [f64; 2]) -> [f64; 2] {
        let part = [0, 1].map(|axis| (point[axis] - self.low[axis]) / (self.high[axis] - self.low[axis]));
        let [left, top, right, bottom] = self.canvas.frame();
        [left + part[0] * (right - left), bottom - part[1] * (bottom - top)]
    }
}

/// About so many round numbers between two ends: 1, 2 or 5 times a power of ten apart.
fn ticks(low: f64, high: f64, wanted: f64) -> Vec<f64> {
    let rough = (high - low) / wanted.max(1.0);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * power)
        .into_iter()
        .find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).take(32).map(|count| count as f64 * step).collect()
}

/// A label for every point that has room for one, and which points have a number because not every name has room.
fn labels_of(canvas: &Canvas, dots: &[[f64; 2]], names: &[String]) -> (Vec<Option<Label>>, Vec<usize>) {
    let mut room = Room::new(canvas.frame(), STYLE, dots);
    let mut labels: Vec<Option<Label>> = (0..dots.len()).map(|index| room.place(index, &names[index])).collect();
    let without: Vec<usize> = (0..dots.len()).filter(|index| labels[*index].is_none()).collect();
    let numbered: Vec<usize> = match canvas.labels {
        Labels::Numbers if !without.is_empty() => {
            room = Room::new(canvas.frame(), STYLE, dots);
            (0..dots.len()).collect()
        }
        Labels::Names => Vec::new(),
        Labels::NamesAndNumbers | Labels::Numbers => without,
    };
    for &index in &numbered {
        labels[index] = room.place(index, &(index + 1).to_string());
    }
    (labels, numbered)
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MAX_LABEL_CHARS {
        return label.to_owned();
    }
    let kept: String = label.chars().take(MAX_LABEL_CHARS - 1).collect();
    format!("{}\u{2026}", kept.trim_end())
}

/// A text on one line between two tags.
fn shown(text: &str) -> String {
    escape(&one_line(text))
}

fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
