//! The layers of a model as boxes within boxes.

use crate::escape;
use crate::page::PICTURE_STYLE;

const WIDTH: usize = 860;
const ROW: usize = 30;
const INDENT: usize = 14;

/// A box of the picture, with those inside it from the input to the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Shape, parameters and work, in columns of their own; an empty one is not drawn.
    pub figures: [String; 3],
    /// What is inside.
    pub inside: Vec<Layer>,
}

impl Layer {
    /// The picture as an SVG file: every box has its figures as text.
    pub fn svg(&self, title: &str) -> String {
        let mut body = String::new();
        let height = self.draw(0, 10, &mut body) + 10;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-size=\"15\">\n<style>\n{PICTURE_STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n",
            escape(title)
        )
    }

    /// Draws the box and what is inside it from `top` on; gives the lower end.
    fn draw(&self, depth: usize, top: usize, body: &mut String) -> usize {
        let mut inner = String::new();
        let mut bottom = top + ROW;
        for layer in &self.inside {
            bottom = layer.draw(depth + 1, bottom, &mut inner) + 6;
        }
        let left = 10 + INDENT * depth;
        body.push_str(&format!(
            "<rect class=\"box{}\" x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\" rx=\"5\"/>\n",
            depth % 2,
            WIDTH - 2 * left,
            bottom - top
        ));
        let right = WIDTH - 22 - INDENT * depth;
        let [shape, params, work] = &self.figures;
        // Columns are where the outermost box has them, so that numbers can be compared.
        let columns = [
            (left + 12, "start", &self.name),
            (440, "end", shape),
            (615, "end", params),
            (right.min(WIDTH - 92), "end", work),
        ];
        for (x, anchor, text) in columns {
            if !text.is_empty() {
                body.push_str(&format!(
                    "<text x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n",
                    top + 20,
                    escape(text)
                ));
            }
        }
        body.push_str(&inner);
        bottom
    }
}
