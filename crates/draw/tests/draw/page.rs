//! What all pages and pictures share.

use serde_json::json;
use taal_draw::{Language, Layer, Lines, Page, RunPage, RunState, Script, WordMap, escape, trace};
use taal_metrics::Report;

/// The style sheet of a page or picture.
fn style(text: &str) -> &str {
    let (_, rest) = text.split_once("<style>\n").expect("a style sheet");
    let (style, rest) = rest.split_once("</style>").expect("its end");
    assert!(!rest.contains("<style"), "one style sheet");
    style
}

fn pictures() -> [String; 3] {
    let lines = Lines {
        title: "Loss",
        x_label: "step",
        y_label: "loss",
        curves: [("one", vec![(1.0, 2.0)]), ("other", Vec::new())],
    };
    let layer = |name: &str, inside| Layer {
        name: name.to_owned(),
        figures: ["2 × 3".to_owned(), String::new(), "12 FLOPs".to_owned()],
        inside,
    };
    let model = layer("<model>", vec![layer("first", Vec::new()), layer("last", Vec::new())]);
    [lines.to_svg(), map().svg(), model.svg("\"Layers\"")]
}

fn map() -> WordMap {
    WordMap {
        title: "Words".to_owned(),
        note: String::new(),
        axes: [String::new(), String::new()],
        labels: vec!["a".to_owned()],
        points: vec![[0.0, 0.0]],
        language: Language::English,
    }
}

fn report() -> String {
    let page = RunPage {
        report: &Report::default(),
        records: &[],
        recipe_toml: "",
        state: RunState::Finished,
        language: Language::English,
    };
    page.to_html()
}

#[test]
fn every_page_has_one_style_sheet_and_every_picture_its_colors() {
    let pages = [report(), map().html(), trace(json!({}), None, Language::English)];
    let sheet = style(&pages[0]);
    assert!(sheet.contains("--page: #ffffff") && sheet.contains("prefers-color-scheme: dark"));
    for page in &pages {
        assert_eq!(style(page), sheet);
        assert!(page.ends_with("</body>\n</html>\n"));
    }
    for picture in &pictures() {
        assert!(sheet.starts_with(style(picture)), "{picture}");
        let (_, drawing) = picture.split_once("</style>").expect("a drawing");
        assert!(!drawing.contains("\"#"), "a fixed color in {picture}");
    }
}

#[test]
fn a_layer_picture_has_each_box_once_with_its_figures_and_no_markup_of_others() {
    let [_, _, picture] = pictures();
    assert_eq!(picture.matches("<rect class=\"box").count(), 3);
    assert_eq!(picture.matches(">2 × 3</text>").count(), 3);
    assert!(picture.contains(">&lt;model&gt;</text>") && picture.contains("aria-label=\"&quot;Layers&quot;\""));
    assert!(!picture.contains("></text>"), "an empty figure is not drawn");
}

#[test]
fn only_a_page_with_a_script_allows_one_and_its_data_is_no_markup() {
    let data = json!({ "text": "</script><b>&\u{2028}HTTP://x" });
    let page = |script| {
        Page {
            title: "<T>",
            body: "<main></main>\n",
            language: Language::English,
            script,
        }
        .to_html()
    };
    let moving = page(Some(Script {
        code: "\"use strict\";\n",
        data: &data,
    }));
    for (page, policy) in [(page(None), ""), (moving.clone(), " script-src 'unsafe-inline';")] {
        let policy =
            format!("default-src 'none'; style-src 'unsafe-inline';{policy} base-uri 'none'; form-action 'none'\"");
        assert!(page.contains(&policy), "{page}");
        assert!(page.contains("<title>&lt;T&gt; · Taal</title>"), "{page}");
        assert_eq!(page.contains("<script"), policy.contains("script-src"));
    }
    let (_, rest) = moving.split_once("id=\"data\">").expect("the data");
    let (written, _) = rest.split_once("</script>").expect("their end");
    assert_eq!(serde_json::from_str::<serde_json::Value>(written).expect("JSON"), data);
    assert!(!written.contains(['<', '>', '&', '\u{2028}']) && !written.to_lowercase().contains("http"));
}

#[test]
fn escaped_text_is_text_that_html_and_xml_can_hold() {
    let text = "a<b>&\"'\n\t\u{0}\u{1b}\u{85}\u{fffe}é";
    assert_eq!(
        escape(text),
        "a&lt;b&gt;&amp;&quot;&#39;\n\t\u{fffd}\u{fffd}\u{fffd}\u{fffd}é"
    );
}
