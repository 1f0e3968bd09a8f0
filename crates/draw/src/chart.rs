//! Line charts as SVG that scales with the page and takes its colors from it.

use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement};
use plotters::style::{Color, IntoFont, RGBColor, ShapeStyle, TRANSPARENT};

use crate::curves::Curve;
use crate::escape;
use crate::numbers::Numbers;

/// What is drawn, in the words of the page's style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Every step.
    Train,
    /// The moving average of the steps.
    Smooth,
    /// Evaluations, with a dot each.
    Validation,
    /// One of several runs, counted from 0.
    Run(usize),
}

impl Role {
    fn color(self) -> RGBColor {
        match self {
            Self::Train => TRAIN,
            Self::Smooth => SMOOTH,
            Self::Validation => VALIDATION,
            Self::Run(index) => RUNS[index.min(RUNS.len() - 1)].0,
        }
    }
}

// plotters writes fixed colors; these stand for classes of the style sheet and are replaced in the finished text.
const TEXT: RGBColor = RGBColor(1, 0, 1);
const GRID: RGBColor = RGBColor(1, 0, 2);
const TRAIN: RGBColor = RGBColor(1, 0, 3);
const SMOOTH: RGBColor = RGBColor(1, 0, 4);
const VALIDATION: RGBColor = RGBColor(1, 0, 5);

const CLASSES: [(RGBColor, &str); 5] = [
    (TEXT, "text"),
    (GRID, "grid"),
    (TRAIN, "train"),
    (SMOOTH, "smooth"),
    (VALIDATION, "validation"),
];

/// Runs that one chart can tell apart.
pub(crate) const MAX_RUNS: usize = RUNS.len();

const RUNS: [(RGBColor, &str); 6] = [
    (RGBColor(1, 1, 0), "run0"),
    (RGBColor(1, 1, 1), "run1"),
    (RGBColor(1, 1, 2), "run2"),
    (RGBColor(1, 1, 3), "run3"),
    (RGBColor(1, 1, 4), "run4"),
    (RGBColor(1, 1, 5), "run5"),
];

/// One chart: its size in units of the drawing, its axes and its curves.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// Width and height; plotters rounds positions to whole units, so there are about two to a pixel.
    pub size: (u32, u32),
    /// The height of the letters.
    pub font_size: u32,
    /// About how many numbers the axes have.
    pub n_labels: (usize, usize),
    /// What the chart shows, for screen readers.
    pub title: &'a str,
    /// What the horizontal axis shows.
    pub x_label: &'a str,
    /// What the vertical axis shows, with its unit.
    pub y_label: &'a str,
    pub x_axis: (f64, f64),
    pub y_axis: (f64, f64),
    pub curves: Vec<(Role, Curve)>,
    /// How the language of the page writes numbers.
    pub numbers: Numbers,
}

/// Why a chart could not be drawn.
type DrawError = DrawingAreaErrorKind<std::io::Error>;

impl Chart<'_> {
    /// The chart as an `<svg>` element. Drawing into memory does not fail; if it did, the page would say so in the chart's place.
    pub(crate) fn to_svg(&self) -> String {
        let mut text = String::new();
        match self.draw(&mut text) {
            Ok(()) => self.adapt(text),
            Err(error) => format!("<p>This chart could not be drawn: {}</p>", escape(&error.to_string())),
        }
    }

    fn draw(&self, text: &mut String) -> Result<(), DrawError> {
        let root = SVGBackend::with_string(text, self.size).into_drawing_area();
        let [x_numbers, y_numbers] = [self.x_axis, self.y_axis].map(|axis| self.numbers.axis(axis));
        let font = ("sans-serif", self.font_size).into_font().color(&TEXT);
        let mut chart = ChartBuilder::on(&root)
            .margin(self.font_size / 2)
            .margin_right(self.font_size)
            .x_label_area_size(self.font_size * 5 / 2)
            .y_label_area_size(self.font_size * 9 / 2)
            .build_cartesian_2d(self.x_axis.0..self.x_axis.1, self.y_axis.0..self.y_axis.1)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(GRID.stroke_width(2))
            .label_style(font.clone())
            .axis_desc_style(font)
            .x_labels(self.n_labels.0)
            .y_labels(self.n_labels.1)
            .x_label_formatter(&|value| x_numbers.text(*value))
            .y_label_formatter(&|value| y_numbers.text(*value))
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .draw()?;
        // plotters draws what is beyond an axis at its end.
        for (role, curve) in &self.curves {
            let style = role.color().stroke_width(line_width(*role));
            for run in curve {
                // A run of one point makes no line, and evaluations are few enough to show each.
                if run.len() == 1 || *role == Role::Validation {
                    chart.draw_series(run.iter().map(|point| dot(*point, *role)))?;
                }
                chart.draw_series([PathElement::new(run.as_slice(), style)])?;
            }
        }
        root.present()
    }

    /// Lets the drawing scale, names it, and replaces colors by classes.
    fn adapt(&self, svg: String) -> String {
        let (width, height) = self.size;
        let fixed = format!("<svg width=\"{width}\" height=\"{height}\"");
        let named = format!("<svg role=\"img\" aria-label=\"{}\"", escape(self.title));
        let mut svg = svg.replacen(&fixed, &named, 1);
        for (RGBColor(red, green, blue), class) in CLASSES.iter().chain(&RUNS) {
            let color = format!("#{red:02X}{green:02X}{blue:02X}");
            svg = svg
                .replace(&format!("stroke=\"{color}\""), &format!("class=\"{class}-line\""))
                .replace(&format!("fill=\"{color}\""), &format!("class=\"{class}-fill\""));
        }
        svg
    }
}

/// In units of the drawing.
fn line_width(role: Role) -> u32 {
    match role {
        Role::Train => 2,
        Role::Smooth | Role::Validation | Role::Run(_) => 4,
    }
}

fn dot(point: (f64, f64), role: Role) -> Circle<(f64, f64), i32> {
    let style: ShapeStyle = role.color().filled();
    Circle::new(point, 6, style)
}
