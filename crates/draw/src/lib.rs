//! Pages, charts, maps and layer pictures: text in, HTML or SVG out.
//!
//! - [`Page`]: the skeleton of every page, with its style sheet and its content security policy;
//! - [`RunPage`], [`trace`] and [`WordMap::html`]: the pages of a run, of a text through a model, and of texts as points of a plane;
//! - [`Language`]: pages are in English or Dutch;
//! - [`Comparison`]: several runs on one page; [`thin`] and [`smooth`]: the points of a curve for other programs that draw it;
//! - [`Lines`], [`Scatter`], [`WordMap::svg`] and [`Layer::svg`]: pictures as SVG files;
//! - [`escape`]: the only way from text to markup.
//!
//! All are light or dark like the reader's screen, and load nothing. The colors are in `picture.css`, which pages and pictures share;
//! `page.css` has what only pages need.
//!
//! Left out: computing what is drawn, and writing files.
//!
//! # Example
//!
//! ```
//! use taal_draw::{Language, Lines, Page, escape};
//!
//! let chart = Lines {
//!     title: "Loss by length",
//!     x_label: "tokens",
//!     y_label: "loss (nats per token)",
//!     curves: [("one", vec![(1.0, 2.0), (2.0, 1.5)]), ("other", vec![(1.0, 2.5), (2.0, 1.0)])],
//! };
//! assert!(chart.to_svg().starts_with("<svg"));
//!
//! let body = format!("<main>\n<p>{}</p>\n</main>\n", escape("a < b"));
//! let page = Page { title: "Order", body: &body, language: Language::English, script: None }.to_html();
//! assert!(page.contains("<p>a &lt; b</p>") && page.contains("default-src 'none'"));
//! ```

mod chart;
mod compare;
mod curves;
mod labels;
mod layers;
mod lines;
mod map;
mod numbers;
mod page;
mod report;
mod scatter;
mod texts;
mod trace;

pub use compare::Comparison;
pub use curves::{Curve, smooth, thin};
pub use layers::Layer;
pub use lines::Lines;
pub use map::{MapSource, WordMap};
pub use page::{Page, Script, escape};
pub use report::curves::smoothing_span;
pub use report::{RunPage, RunState};
pub use scatter::{Scatter, ScatterPoint};
pub use texts::{Language, UnknownLanguage};
pub use trace::trace;
