//! A small, ordered XML tree that keeps what it does not understand.
//!
//! libvirt definitions belong to their users: foreign namespaces, comments and elements of newer versions must
//! survive when we change one number. `quick-xml` reads and writes the text; this tree holds it in between, in order,
//! with qualified names as they were written.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesCData, BytesEnd, BytesPI, BytesStart, BytesText, Event};
use quick_xml::reader::Reader;
use quick_xml::writer::Writer;

use super::XmlError;

/// Largest document that is read, in bytes.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Deepest nesting that is read or written.
pub const MAX_DEPTH: usize = 64;

/// What an element holds, in document order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A nested element.
    Element(Element),
    /// Character data, unescaped.
    Text(String),
    /// A CDATA section.
    CData(String),
    /// A comment.
    Comment(String),
    /// A processing instruction.
    Pi(String),
}

/// One element: its qualified name as written, its attributes in order (unescaped), and its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Qualified name, with its prefix if it has one.
    pub name: String,
    /// Attributes in document order, namespace declarations among them.
    pub attributes: Vec<(String, String)>,
    /// Content in document order.
    pub children: Vec<Node>,
}

impl Element {
    /// An empty element.
    pub fn new(name: impl Into<String>) -> Element {
        Element {
            name: name.into(),
            ..Element::default()
        }
    }

    /// The same element with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Element {
        self.set(name, value);
        self
    }

    /// The same element with an attribute where there is a value.
    #[must_use]
    pub fn with_opt(mut self, name: &str, value: Option<impl Into<String>>) -> Element {
        if let Some(value) = value {
            self.set(name, value);
        }
        self
    }

    /// The same element with one more child.
    #[must_use]
    pub fn child(mut self, child: Element) -> Element {
        self.children.push(Node::Element(child));
        self
    }

    /// The same element with a child where there is one.
    #[must_use]
    pub fn child_opt(mut self, child: Option<Element>) -> Element {
        self.children.extend(child.map(Node::Element));
        self
    }

    /// The same element with text content.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Element {
        self.set_text(text);
        self
    }

    /// An attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Sets an attribute, in its place if it exists.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.attributes.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value.into(),
            None => self.attributes.push((name.to_owned(), value.into())),
        }
    }

    /// Removes an attribute; says whether it was there.
    pub fn unset(&mut self, name: &str) -> bool {
        let before = self.attributes.len();
        self.attributes.retain(|(n, _)| n != name);
        before != self.attributes.len()
    }

    /// The nested elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(e) => Some(e),
            Node::Text(_) | Node::CData(_) | Node::Comment(_) | Node::Pi(_) => None,
        })
    }

    /// The nested elements, to be changed.
    pub fn elements_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.children.iter_mut().filter_map(|node| match node {
            Node::Element(e) => Some(e),
            Node::Text(_) | Node::CData(_) | Node::Comment(_) | Node::Pi(_) => None,
        })
    }

    /// All nested elements of one name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.elements().filter(move |e| e.name == name)
    }

    /// The first nested element of that name.
    pub fn get(&self, name: &str) -> Option<&Element> {
        self.elements().find(|e| e.name == name)
    }

    /// The first nested element of that name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Element> {
        self.elements_mut().find(|e| e.name == name)
    }

    /// The element at the end of a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.get(name))
    }

    /// Changes the first nested element of that name; makes it behind the last of `after` when it is missing.
    pub fn upsert(&mut self, name: &str, after: &[&str], change: impl FnOnce(&mut Element)) {
        match self.get_mut(name) {
            Some(element) => change(element),
            None => {
                let mut element = Element::new(name);
                change(&mut element);
                self.insert_after(after, element);
            }
        }
    }

    /// Where the first nested element of that name is among the nodes.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.children
            .iter()
            .position(|n| matches!(n, Node::Element(e) if e.name == name))
    }

    /// Adds an element at the end, before the closing indentation.
    pub fn append(&mut self, element: Element) {
        let at = match self.children.last() {
            Some(Node::Text(t)) if t.trim().is_empty() => self.children.len() - 1,
            _ => self.children.len(),
        };
        self.children.insert(at, Node::Element(element));
    }

    /// Adds an element behind the last of the named ones, or at the end when none of them is there.
    pub fn insert_after(&mut self, names: &[&str], element: Element) {
        let at = self
            .children
            .iter()
            .rposition(|n| matches!(n, Node::Element(e) if names.contains(&e.name.as_str())));
        match at {
            Some(at) => self.children.insert(at + 1, Node::Element(element)),
            None => self.append(element),
        }
    }

    /// Removes the nested elements for which `doomed` says so; says how many.
    pub fn remove_where(&mut self, mut doomed: impl FnMut(&Element) -> bool) -> usize {
        let before = self.children.len();
        self.children
            .retain(|node| !matches!(node, Node::Element(e) if doomed(e)));
        before - self.children.len()
    }

    /// All character data directly inside, joined.
    pub fn own_text(&self) -> String {
        self.children
            .iter()
            .filter_map(|node| match node {
                Node::Text(t) | Node::CData(t) => Some(t.as_str()),
                Node::Element(_) | Node::Comment(_) | Node::Pi(_) => None,
            })
            .collect()
    }

    /// The trimmed text of a nested element, when it has any.
    pub fn text_of(&self, name: &str) -> Option<String> {
        let text = self.get(name)?.own_text();
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// Replaces all content by one text.
    pub fn set_text(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.children.clear();
        if !text.is_empty() {
            self.children.push(Node::Text(text));
        }
    }

    /// The part of the name behind the prefix.
    pub fn local_name(&self) -> &str {
        self.name.rsplit(':').next().unwrap_or(&self.name)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is too large, too deep, not well-formed, or uses a DTD or entities of its own.
    pub fn parse(text: &str) -> Result<Element, XmlError> {
        if text.len() > MAX_BYTES {
            return Err(XmlError::TooLarge {
                bytes: text.len(),
                limit: MAX_BYTES,
            });
        }
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_comments = true;
        let mut open: Vec<Element> = Vec::new();
        let mut root: Option<Element> = None;
        loop {
            match reader
                .read_event()
                .map_err(|e| XmlError::Malformed(e.to_string()))?
            {
                Event::Start(start) => {
                    if open.len() >= MAX_DEPTH {
                        return Err(XmlError::TooDeep { limit: MAX_DEPTH });
                    }
                    if root.is_some() {
                        return Err(XmlError::Malformed("more than one root element".into()));
                    }
                    open.push(begin(&start)?);
                }
                Event::Empty(start) => {
                    let element = begin(&start)?;
                    place(&mut open, &mut root, element)?;
                }
                Event::End(_) => {
                    let Some(element) = open.pop() else {
                        return Err(XmlError::Malformed("an end tag without a start tag".into()));
                    };
                    place(&mut open, &mut root, element)?;
                }
                Event::Text(text) => push_text(&mut open, &text.xml_content(XmlVersion::Implicit1_0))?,
                Event::GeneralRef(reference) => {
                    let resolved = match reference
                        .resolve_char_ref()
                        .map_err(|e| XmlError::Malformed(e.to_string()))?
                    {
                        Some(character) => character.to_string(),
                        None => {
                            let name = reference.xml_content(XmlVersion::Implicit1_0);
                            quick_xml::escape::resolve_predefined_entity(&name)
                                .ok_or_else(|| XmlError::Malformed(format!("unknown entity &{name};")))?
                                .to_owned()
                        }
                    };
                    push_text(&mut open, &resolved)?;
                }
                Event::CData(data) => {
                    push_node(
                        &mut open,
                        Node::CData(data.xml_content(XmlVersion::Implicit1_0).into_owned()),
                    )?;
                }
                Event::Comment(comment) => {
                    // Comments around the root carry no meaning for libvirt and are not kept.
                    if !open.is_empty() {
                        push_node(&mut open, Node::Comment(comment.into_inner().into_owned()))?;
                    }
                }
                Event::PI(pi) => {
                    if !open.is_empty() {
                        push_node(&mut open, Node::Pi(pi.into_inner().into_owned()))?;
                    }
                }
                Event::Decl(_) => {}
                Event::DocType(_) => {
                    return Err(XmlError::Malformed(
                        "a document type declaration is not accepted".into(),
                    ));
                }
                Event::Eof => break,
            }
        }
        if let Some(unclosed) = open.last() {
            return Err(XmlError::Malformed(format!("<{}> is not closed", unclosed.name)));
        }
        root.ok_or_else(|| XmlError::Malformed("no root element".into()))
    }

    /// Writes the element as text.
    ///
    /// # Errors
    /// When a text or name cannot be written as XML 1.0 (control characters, NUL), or the tree is too deep.
    pub fn to_xml(&self) -> Result<String, XmlError> {
        let mut writer = Writer::new(Vec::new());
        write_element(&mut writer, self, 0)?;
        String::from_utf8(writer.into_inner()).map_err(|e| XmlError::Malformed(e.to_string()))
    }
}

fn begin(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut element = Element::new(start.name().as_ref().to_owned());
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| XmlError::Malformed(e.to_string()))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|e| XmlError::Malformed(e.to_string()))?;
        element
            .attributes
            .push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn place(open: &mut [Element], root: &mut Option<Element>, element: Element) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(parent) => parent.children.push(Node::Element(element)),
        None if root.is_none() => *root = Some(element),
        None => return Err(XmlError::Malformed("more than one root element".into())),
    }
    Ok(())
}

fn push_node(open: &mut [Element], node: Node) -> Result<(), XmlError> {
    let Some(parent) = open.last_mut() else {
        return Err(XmlError::Malformed("content outside the root element".into()));
    };
    parent.children.push(node);
    Ok(())
}

fn push_text(open: &mut [Element], text: &str) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(parent) => {
            // Text arrives in pieces around entity references: they are one text again.
            if let Some(Node::Text(previous)) = parent.children.last_mut() {
                previous.push_str(text);
            } else if !text.is_empty() {
                parent.children.push(Node::Text(text.to_owned()));
            }
            Ok(())
        }
        None if text.trim().is_empty() => Ok(()),
        None => Err(XmlError::Malformed("text outside the root element".into())),
    }
}

fn write_element(writer: &mut Writer<Vec<u8>>, element: &Element, depth: usize) -> Result<(), XmlError> {
    if depth >= MAX_DEPTH {
        return Err(XmlError::TooDeep { limit: MAX_DEPTH });
    }
    check_name(&element.name)?;
    let mut start = BytesStart::new(element.name.as_str());
    for (name, value) in &element.attributes {
        check_name(name)?;
        super::check_text(name, value)?;
        start.push_attribute((name.as_str(), value.as_str()));
    }
    let io = |e: std::io::Error| XmlError::Malformed(e.to_string());
    if element.children.is_empty() {
        return writer.write_event(Event::Empty(start)).map_err(io);
    }
    writer.write_event(Event::Start(start)).map_err(io)?;
    for node in &element.children {
        match node {
            Node::Element(child) => write_element(writer, child, depth + 1)?,
            Node::Text(text) => {
                super::check_text(&element.name, text)?;
                writer
                    .write_event(Event::Text(BytesText::new(text)))
                    .map_err(io)?;
            }
            Node::CData(text) => {
                super::check_text(&element.name, text)?;
                for part in BytesCData::escaped(text) {
                    writer.write_event(Event::CData(part)).map_err(io)?;
                }
            }
            Node::Comment(text) => {
                super::check_text(&element.name, text)?;
                writer
                    .write_event(Event::Comment(BytesText::from_escaped(text.as_str())))
                    .map_err(io)?;
            }
            Node::Pi(text) => {
                super::check_text(&element.name, text)?;
                writer
                    .write_event(Event::PI(BytesPI::new(text.as_str())))
                    .map_err(io)?;
            }
        }
    }
    writer
        .write_event(Event::End(BytesEnd::new(element.name.as_str())))
        .map_err(io)
}

/// Names come from documents that were parsed or from our own source: this only catches our own mistakes.
fn check_name(name: &str) -> Result<(), XmlError> {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if name.is_empty() || !name.chars().all(legal) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(XmlError::Malformed(format!("{name:?} is not an XML name")));
    }
    Ok(())
}
