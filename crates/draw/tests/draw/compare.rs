use taal_draw::Comparison;
use taal_metrics::StepRecord;

use crate::record;

fn rows(rows: &[(&str, [&str; 2])]) -> Vec<(String, Vec<String>)> {
    let row = |(name, values): &(&str, [&str; 2])| (name.to_string(), values.map(str::to_owned).to_vec());
    rows.iter().map(row).collect()
}

fn page(records: [&[StepRecord]; 2], keys: &[(&str, [&str; 2])]) -> String {
    let [first, second] = records;
    let figures = rows(&[("best validation loss", ["1.4142", "2.0000"])]);
    Comparison {
        runs: &[("one", first), ("<two>", second)],
        figures: &figures,
        keys: &rows(keys),
        notes: &["the texts differ & more".to_owned()],
    }
    .to_html()
}

#[test]
fn a_page_of_two_runs_has_both_curves_in_each_chart_their_names_and_their_tables() {
    let first: Vec<StepRecord> = (1..=20).map(record).collect();
    let second: Vec<StepRecord> = (1..=6).map(record).collect();
    let html = page([&first, &second], &[("train.lr", ["0.001", "0.01"])]);
    let charts: Vec<&str> = html.split("<svg").skip(1).collect();
    // The validation loss in two sizes, and the training loss; these records have neither times nor bytes.
    assert_eq!(charts.len(), 3);
    for chart in charts {
        let chart = chart.split("</svg>").next().expect("a chart");
        assert!(chart.contains("run0-line") && chart.contains("run1-line"), "{chart}");
    }
    assert!(html.contains("<span class=\"legend run1\">&lt;two&gt;</span>"));
    assert!(html.contains("<th scope=\"row\">train.lr</th><td>0.001</td><td>0.01</td>"));
    assert!(html.contains("best validation loss") && html.contains("the texts differ &amp; more"));
    assert!(!html.contains("<two>"));
    assert_eq!(html.matches("://").count(), html.matches("xmlns=\"http://").count());
}

#[test]
fn runs_of_the_same_recipe_without_an_evaluation_say_so_and_still_have_a_page() {
    let first: Vec<StepRecord> = [1, 3].map(record).to_vec();
    let html = page([&first, &[]], &[]);
    assert!(html.contains("No run was evaluated.") && html.contains("The recipes are the same."));
    assert!(!html.contains("NaN"));
}
