//! Two definitions compared by meaning: attribute order, indentation, comments and declarations do not count.

use super::tree::{Element, Node};

/// One line per element, attribute and text, each with its whole path: two documents mean the same when their lines
/// are equal, and a diff of the lines names exactly what changed. Siblings of one name are numbered in order.
pub fn lines(root: &Element) -> Vec<String> {
    let mut out = Vec::new();
    walk(root, &format!("/{}", root.name), &mut out);
    out
}

fn walk(element: &Element, path: &str, out: &mut Vec<String>) {
    out.push(path.to_owned());
    let mut attributes: Vec<_> = element.attributes.iter().collect();
    attributes.sort();
    out.extend(
        attributes
            .into_iter()
            .map(|(name, value)| format!("{path}@{name}={value:?}")),
    );
    let text = element.own_text();
    let trimmed = text.trim();
    if !trimmed.is_empty() {
        out.push(format!("{path}={trimmed:?}"));
    }
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for node in &element.children {
        if let Node::Element(child) = node {
            let number = match seen.iter_mut().find(|(name, _)| *name == child.name) {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    seen.push((&child.name, 1));
                    1
                }
            };
            walk(child, &format!("{path}/{}[{number}]", child.name), out);
        }
    }
}

/// What has to be taken away (`-`) and added (`+`) to come from one document to the other.
pub fn diff(before: &Element, after: &Element) -> Vec<String> {
    let (old, new) = (lines(before), lines(after));
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("-{line}"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("+{line}"));
    gone.chain(come).collect()
}
