//! Two curves in one SVG file.

use crate::chart::{Chart, Role};
use crate::curves::{axis, drawable};
use crate::page::PICTURE_STYLE;
use crate::{Language, escape};

const SIZE: (u32, u32) = (960, 540);
const LEGEND_HEIGHT: u32 = 48;
const FONT_SIZE: u32 = 22;

/// A chart of two curves.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines<'a> {
    /// What the chart shows, for screen readers.
    pub title: &'a str,
    /// What the horizontal axis shows, with its unit.
    pub x_label: &'a str,
    /// What the vertical axis shows, with its unit.
    pub y_label: &'a str,
    /// Name and points of each curve, the points from left to right.
    pub curves: [(&'a str, Vec<(f64, f64)>); 2],
}

impl Lines<'_> {
    /// The chart as an SVG file: light or dark like the reader's screen, the second curve with a dot at every point, loading nothing.
    /// Values that are not finite are left out.
    pub fn to_svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let (Some(x_axis), Some(y_axis)) = (
            axis(points().map(|point| point.0), false),
            axis(points().map(|point| point.1), false),
        ) else {
            return self.wrapped("");
        };
        let roles = [Role::Smooth, Role::Validation];
        let curve = |points: &[(f64, f64)]| {
            let drawn = points.iter().copied();
            vec![
                drawn
                    .filter(|(x, y)| drawable(*x).is_some() && drawable(*y).is_some())
                    .collect::<Vec<_>>(),
            ]
        };
        let chart = Chart {
            size: SIZE,
            font_size: FONT_SIZE,
            n_labels: (8, 6),
            title: self.title,
            x_label: self.x_label,
            y_label: self.y_label,
            x_axis,
            y_axis,
            curves: roles
                .into_iter()
                .zip(&self.curves)
                .map(|(role, (_, points))| (role, curve(points)))
                .collect(),
            numbers: Language::English.numbers(),
        };
        self.wrapped(&chart.to_svg())
    }

    /// The drawing below its legend, on a background.
    fn wrapped(&self, drawing: &str) -> String {
        let (width, height) = (SIZE.0, SIZE.1 + LEGEND_HEIGHT);
        let mut x = 110;
        let mut legend = String::new();
        for (class, (name, _)) in ["smooth", "validation"].into_iter().zip(&self.curves) {
            let name = escape(name);
            legend.push_str(&format!(
                "<rect class=\"{class}-fill\" x=\"{x}\" y=\"21\" width=\"36\" height=\"6\"/>\n\
                 <text class=\"text-fill\" x=\"{}\" y=\"31\" font-size=\"{FONT_SIZE}\">{name}</text>\n",
                x + 46
            ));
            x += 80 + FONT_SIZE as usize * name.chars().count();
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {width} {height}\">\n\
             <style>\n{PICTURE_STYLE}</style>\n<rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n{legend}\
             <g transform=\"translate(0 {LEGEND_HEIGHT})\">{}</g>\n</svg>\n",
            escape(self.title),
            drawing.replacen("<svg ", &format!("<svg width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1), 1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_both_curves_their_names_and_no_markup_of_others() {
        let lines = Lines {
            title: "a < b",
            x_label: "length",
            y_label: "loss",
            curves: [
                ("one & only", vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)]),
                ("<other>", vec![(1.0, 3.0), (3.0, 2.5)]),
            ],
        };
        let svg = lines.to_svg();
        assert_eq!(
            svg.matches("smooth-line").count(),
            2,
            "once in the style, once as a curve"
        );
        assert_eq!(svg.matches("validation-line").count(), 2);
        assert_eq!(
            svg.matches("<circle").count(),
            2,
            "a dot at each point of the second curve"
        );
        assert!(svg.contains("one &amp; only") && svg.contains("&lt;other&gt;"));
        assert_eq!(svg.matches("http").count(), svg.matches("xmlns=").count());
        assert!(!svg.contains("NaN"));
    }
}
