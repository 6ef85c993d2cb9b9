//! The page around the sections of a report: one file, without scripts, that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::printable;

/// Values with more HTML than this get a row of their own.
const LONG_VALUE: usize = 50;
const STYLE: &str = include_str!("page.css");

/// A whole report.
#[derive(Clone, Debug)]
pub struct Page {
    /// What kind of report it is: `Training report`.
    pub kind: String,
    /// What it is about: the name of the data set.
    pub title: String,
    /// One sentence under the title.
    pub subtitle: String,
    /// The parts of the report, in order; those with an empty body are left out.
    pub sections: Vec<Section>,
    /// The last line, with version and time.
    pub footer: String,
}

/// A part of a report with a heading.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its address in the page; letters, digits and hyphens, different for each.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// Everything below the heading.
    pub body: Markup,
}

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let title = printable(&self.title);
        let sections = || {
            self.sections
                .iter()
                .filter(|section| !section.body.0.is_empty())
        };
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content={ "catalog " (env!("CARGO_PKG_VERSION")) };
                    // Nothing is loaded and nothing runs, whatever the names in the data say.
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'";
                    title { (title) " – " (self.kind) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#content" { "Skip to the content" }
                    header {
                        p.kind { (self.kind) }
                        h1 { bdi { (title) } }
                        p.subtitle { (printable(&self.subtitle)) }
                        nav aria-label="Sections" {
                            ul { @for section in sections() { li { a href={ "#" (section.id) } { (section.title) } } } }
                        }
                    }
                    main #content tabindex="-1" {
                        @for section in sections() {
                            section id=(section.id) aria-labelledby={ (section.id) "-heading" } {
                                h2 id={ (section.id) "-heading" } { (section.title) }
                                (section.body)
                            }
                        }
                    }
                    footer { p { (printable(&self.footer)) } }
                }
            }
        }
        .into_string()
    }
}

/// Something wider than a phone, which scrolls in itself and can be reached with the keyboard.
pub fn scrolling(label: &str, content: Markup) -> Markup {
    html! { div.scroll role="region" aria-label={ "Table: " (printable(label)) } tabindex="0" { (content) } }
}

/// Names and values in columns.
pub fn facts<'a>(pairs: impl IntoIterator<Item = (&'a str, Markup)>) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in pairs {
                @let class = (value.0.len() > LONG_VALUE).then_some("wide");
                div class=[class] { dt { (printable(name)) } dd { (value) } }
            }
        }
    }
}

/// A name from the data, which may be written in any direction.
pub fn name(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(title: &str) -> String {
        let section = |id, body| Section {
            id,
            title: id.to_owned(),
            body,
        };
        Page {
            kind: "Training report".into(),
            title: title.into(),
            subtitle: String::new(),
            sections: vec![
                section("full", html! { p { "text" } }),
                section("empty", html! {}),
            ],
            footer: String::new(),
        }
        .html()
    }

    #[test]
    fn sections_without_content_are_left_out() {
        let page = page("shop");
        assert!(page.contains("<section id=\"full\""));
        assert!(!page.contains("empty-heading") && !page.contains("#empty"));
    }

    #[test]
    fn a_hostile_name_stays_text() {
        let page = page("</title><script>alert(1)</script>");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }

    #[test]
    fn the_style_sheet_cannot_end_its_element_or_load_anything() {
        for forbidden in ["</", "url(", "@import", "http"] {
            assert!(!STYLE.contains(forbidden), "{forbidden}");
        }
    }
}
