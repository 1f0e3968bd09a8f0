//! Names next to dots: where there is room for each.

/// How far from the edge of its dot a name may be; from the second on, a line leads to it.
const BEYOND_DOT: [f64; 5] = [3.5, 17.5, 35.5, 59.5, 87.5];
/// The gap between a name and the line that leads to it.
const LEADER_GAP: f64 = 3.0;

/// The sizes of names and dots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelStyle {
    pub(crate) font_size: f64,
    pub(crate) dot_radius: f64,
}

/// A rectangle of the drawing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Area {
    left: f64,
    top: f64,
    right: f64,
    pub(crate) bottom: f64,
}

impl Area {
    fn around([x, y]: [f64; 2], reach: f64) -> Self {
        Self {
            left: x - reach,
            top: y - reach,
            right: x + reach,
            bottom: y + reach,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn is_inside(&self, [left, top, right, bottom]: [f64; 4]) -> bool {
        self.left >= left + 2.0 && self.right <= right - 2.0 && self.top >= top + 2.0 && self.bottom <= bottom - 2.0
    }
}

/// A name or number in the drawing.
pub(crate) struct Label {
    pub(crate) text: String,
    pub(crate) area: Area,
    /// The position of the side that faces its dot, or of its middle, whatever the width of the font.
    pub(crate) x: f64,
    pub(crate) anchor: &'static str,
    /// The end of the line from its dot, if it is apart from it.
    pub(crate) leader: Option<[f64; 2]>,
}

/// What labels may not cover.
pub(crate) struct Room<'a> {
    /// Left, top, right, bottom.
    frame: [f64; 4],
    style: LabelStyle,
    dots: &'a [[f64; 2]],
    /// Areas of the dots, in their order, then of labels and lines.
    taken: Vec<Area>,
}

impl<'a> Room<'a> {
    pub(crate) fn new(frame: [f64; 4], style: LabelStyle, dots: &'a [[f64; 2]]) -> Self {
        let reach = style.dot_radius + 1.0;
        let taken = dots.iter().map(|dot| Area::around(*dot, reach)).collect();
        Self {
            frame,
            style,
            dots,
            taken,
        }
    }

    /// Keeps labels off a line.
    pub(crate) fn take_line(&mut self, from: [f64; 2], to: [f64; 2]) {
        self.taken.extend(leader_areas(from, Some(to)));
    }

    /// Places a label that covers no dot, no earlier label and no line; none if there is no such place.
    pub(crate) fn place(&mut self, index: usize, text: &str) -> Option<Label> {
        let dot = self.dots[index];
        let found = candidates(dot, text, self.style).find(|label| {
            let is_free = |area: &Area, own: bool| {
                let blocks = |(other, taken): (usize, &Area)| !(own && other == index) && taken.overlaps(area);
                !self.taken.iter().enumerate().any(blocks)
            };
            let line = leader_areas(dot, label.leader);
            label.area.is_inside(self.frame)
                && is_free(&label.area, false)
                && line.iter().all(|area| is_free(area, true))
        });
        if let Some(label) = &found {
            self.taken.push(label.area);
            self.taken.extend(leader_areas(dot, label.leader));
        }
        found
    }
}

/// Places around a dot, the best first: right, left, above, below, then the corners; near, then further away.
fn candidates([x, y]: [f64; 2], text: &str, style: LabelStyle) -> impl Iterator<Item = Label> {
    const SIDES: [[f64; 2]; 8] = [
        [1.0, 0.0],
        [-1.0, 0.0],
        [0.0, -1.0],
        [0.0, 1.0],
        [0.7, -0.7],
        [0.7, 0.7],
        [-0.7, -0.7],
        [-0.7, 0.7],
    ];
    let width = text_width(text, style.font_size);
    let height = 1.2 * style.font_size;
    BEYOND_DOT.into_iter().enumerate().flat_map(move |(round, beyond)| {
        let distance = style.dot_radius + beyond;
        SIDES.into_iter().map(move |[across, down]| {
            let near = [x + across * distance, y + down * distance];
            let (anchor, before) = match across {
                a if a > 0.0 => ("start", 0.0),
                a if a < 0.0 => ("end", width),
                _ => ("middle", width / 2.0),
            };
            let left = near[0] - before;
            let top = near[1] - height * (1.0 - down) / 2.0;
            let area = Area {
                left,
                top,
                right: left + width,
                bottom: top + height,
            };
            let end = 1.0 - LEADER_GAP / distance;
            let leader = (round > 0).then_some([x + across * distance * end, y + down * distance * end]);
            Label {
                text: text.to_owned(),
                area,
                x: near[0],
                anchor,
                leader,
            }
        })
    })
}

/// A line as small squares along it.
fn leader_areas(from: [f64; 2], to: Option<[f64; 2]>) -> Vec<Area> {
    let Some(to) = to else { return Vec::new() };
    let along = |part: f64| [0, 1].map(|axis| from[axis] + part * (to[axis] - from[axis]));
    let steps = ((to[0] - from[0]).hypot(to[1] - from[1]) / 4.0).ceil().max(1.0) as u32;
    (1..steps)
        .map(|step| Area::around(along(f64::from(step) / f64::from(steps)), 1.5))
        .collect()
}

/// About how wide a name is; rather too much, because fonts differ.
fn text_width(text: &str, font_size: f64) -> f64 {
    let width = |character: char| match character {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '!' | '|' | ' ' | '-' | '(' | ')' => {
            0.42
        }
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 1.0,
        c if c.is_ascii_uppercase() => 0.74,
        c if (c as u32) < 0x1100 => 0.62,
        _ => 1.05,
    };
    font_size * text.chars().map(width).sum::<f64>() + 2.0
}
