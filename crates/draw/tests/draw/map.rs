//! Maps of words as SVG and as a page.

use taal_draw::{Language, WordMap};

fn map(named: &[(&str, [f64; 2])]) -> WordMap {
    WordMap {
        title: "Words".to_owned(),
        note: "From here.".to_owned(),
        axes: ["component 1".to_owned(), "component 2".to_owned()],
        labels: named.iter().map(|(label, _)| (*label).to_owned()).collect(),
        points: named.iter().map(|(_, point)| *point).collect(),
        language: Language::English,
    }
}

/// Points that crowd in the middle, each with a name of its own.
fn crowd(n: usize) -> WordMap {
    let spot = |at: usize| {
        let (angle, radius) = (at as f64 * 2.4, (at as f64).sqrt());
        [radius * angle.cos(), radius * angle.sin()]
    };
    let labels: Vec<String> = (0..n).map(|at| format!("word{at}")).collect();
    let named: Vec<(&str, [f64; 2])> = labels.iter().map(String::as_str).zip((0..n).map(spot)).collect();
    map(&named)
}

/// The values of an attribute of the elements of a class.
fn values<'a>(svg: &'a str, class: &str, attribute: &str) -> Vec<&'a str> {
    let class = format!("class=\"{class}\"");
    let elements = svg.split('<').filter(|it| it.contains(&class));
    let value = |element: &'a str| element.split_once(&format!(" {attribute}=\""))?.1.split('"').next();
    elements.filter_map(value).collect()
}

/// The texts of the elements of a class.
fn texts<'a>(svg: &'a str, class: &str) -> Vec<&'a str> {
    let class = format!("class=\"{class}\"");
    let elements = svg.split('<').filter(|it| it.contains(&class));
    elements
        .filter_map(|element| Some(element.split_once('>')?.1))
        .collect()
}

fn numbers(svg: &str, class: &str, attribute: &str) -> Vec<f64> {
    let values = values(svg, class, attribute).into_iter();
    values.map(|value| value.parse().expect("a number")).collect()
}

/// The drawings of a page or file.
fn drawings(text: &str) -> Vec<&str> {
    text.split("<svg ").skip(1).collect()
}

#[test]
fn no_name_covers_another_or_a_dot_and_those_without_room_are_counted() {
    for n in [3, 40, 300] {
        let map = crowd(n);
        for page in [map.svg(), map.html()] {
            for svg in drawings(&page) {
                let dots = numbers(svg, "dot", "cx").into_iter().zip(numbers(svg, "dot", "cy"));
                let dots: Vec<(f64, f64)> = dots.collect();
                let places = numbers(svg, "name", "x").into_iter().zip(numbers(svg, "name", "y"));
                let names = places.zip(values(svg, "name", "text-anchor")).zip(texts(svg, "name"));
                // A digit of the narrowest font is half as wide as high.
                let area = |(((x, y), anchor), text): (((f64, f64), &str), &str)| {
                    let width = 7.5 * text.len() as f64;
                    let side = ["start", "middle", "end"].iter().position(|it| *it == anchor).unwrap();
                    let left = x - side as f64 * width / 2.0;
                    [left, y - 11.0, left + width, y + 2.0]
                };
                let areas: Vec<[f64; 4]> = names.map(area).collect();
                for (at, a) in areas.iter().enumerate() {
                    let covers = |b: &[f64; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
                    assert!(!areas[at + 1..].iter().any(covers), "{n}: name {at} covers another");
                    let dot = |(x, y): &(f64, f64)| covers(&[x - 4.0, y - 4.0, x + 4.0, y + 4.0]);
                    assert!(!dots.iter().any(dot), "{n}: name {at} covers a dot");
                }
                assert_eq!(dots.len(), n);
                let hidden = n - areas.len();
                assert_eq!(
                    svg.contains(&format!("points without a label: {hidden}<")),
                    hidden > 0,
                    "{n}: {hidden}"
                );
                assert!(
                    n > 40 || svg.contains(" narrow-") || hidden == 0,
                    "{n} names have room on {}",
                    &svg[..80]
                );
            }
        }
    }
    let (page, file) = (crowd(300).html(), crowd(300).svg());
    assert!(
        !texts(&file, "name").iter().any(|name| !name.starts_with("word")),
        "a file has no list of numbers"
    );
    assert_eq!(
        page.matches("<th scope=\"row\">").count(),
        300,
        "the table has them all"
    );
}

#[test]
fn a_page_and_a_file_refer_to_nothing_outside() {
    let map = map(&[("http://a.b", [0.0, 0.0]), ("b", [1.0, 0.5]), ("c", [0.3, 2.0])]);
    let svg = map
        .svg()
        .replace("xmlns=\"http://www.w3.org/2000/svg\"", "")
        .replace("http://a.b", "");
    let html = map.html().replace("http://a.b", "");
    for text in [&svg, &html] {
        assert!(
            !text.contains("://") && !text.contains("url(") && !text.contains("<script"),
            "{text}"
        );
        assert!(!text.contains("src=") && !text.contains("href="));
    }
    assert!(html.contains("default-src 'none'") && svg.contains("prefers-color-scheme: dark"));
}

#[test]
fn texts_cannot_leave_their_place() {
    let hostile = "</text><script>alert(\"!\")</script>&\u{0}\u{1b}]]>";
    let mut map = map(&[(hostile, [0.0, 0.0]), ("b", [1.0, 0.5]), ("c", [0.3, 2.0])]);
    map.title = hostile.to_owned();
    map.note = hostile.to_owned();
    map.axes = [hostile.to_owned(), hostile.to_owned()];
    for text in [map.svg(), map.html()] {
        assert!(
            !text.contains("<script") && !text.contains("\"!\"") && !text.contains(['\u{0}', '\u{1b}']),
            "{text}"
        );
        assert!(text.contains("&lt;script&gt;"));
    }
}

#[test]
fn a_unit_is_as_long_across_as_upwards() {
    let map = map(&[("a", [0.0, 0.0]), ("b", [10.0, 0.0]), ("c", [0.0, 3.0])]);
    for svg in drawings(&map.html()) {
        let [x, y] = ["cx", "cy"].map(|it| numbers(svg, "dot", it));
        let [across, upwards] = [(x[1] - x[0]) / 10.0, (y[0] - y[2]) / 3.0];
        assert!((across - upwards).abs() < 0.1 && across > 20.0, "{across} {upwards}");
    }
}

#[test]
fn points_that_are_none_are_left_out() {
    let nowhere = [
        ("a", [f64::NAN, 0.0]),
        ("b", [0.0, f64::INFINITY]),
        ("c", [0.5, 0.5]),
        ("d", [0.5, 0.5]),
    ];
    let page = map(&nowhere).html();
    assert_eq!(
        page.matches("class=\"dot\"").count(),
        4,
        "two points in two drawings: {page}"
    );
    for points in [
        &nowhere[..0],
        &nowhere[..1],
        &nowhere[2..3],
        &[("far", [1e300, -1e300]), ("x", [1e29, 1.0])][..],
    ] {
        let svg = map(points).svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
    let long = "long ".repeat(40);
    let svg = map(&[(&long, [0.0, 0.0]), ("b", [1.0, 1.0])]).svg();
    assert!(svg.contains("\u{2026}</text>"), "a long name is cut");
}

#[test]
fn on_a_phone_points_without_room_for_their_names_are_numbered_and_listed() {
    let map = map(&(0..40)
        .map(|at| {
            (
                ["a long name that takes room", "another one as long as that"][at % 2],
                [(at % 8) as f64, (at / 8) as f64],
            )
        })
        .collect::<Vec<_>>());
    let page = map.html();
    let narrow = drawings(&page)[1];
    let (drawing, list) = narrow.split_once("</svg>").expect("a list");
    let numbered = texts(drawing, "name");
    assert!(numbered.len() >= 38, "{} of 40 have a number", numbered.len());
    assert!(numbered.iter().all(|name| name.parse::<u32>().is_ok()), "{numbered:?}");
    assert_eq!(list.matches("<li value=").count(), 40);
    assert!(list.contains("<li value=\"2\">another one as long as that</li>"));
}

#[test]
fn the_coordinates_have_one_notation_and_the_language_of_the_page() {
    let mut map = map(&[("a", [0.1242, -0.0489]), ("b", [-0.0517, 0.00805]), ("c", [0.3, 1.0])]);
    assert!(map.html().contains("<td>-0.052</td><td>0.008</td>"), "{}", map.html());
    map.language = Language::Dutch;
    let page = map.html();
    assert!(page.contains("<td>-0,052</td><td>0,008</td>") && page.contains("<summary>Coördinaten</summary>"));
}
