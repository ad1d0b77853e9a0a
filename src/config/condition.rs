//! Conditions over a visit (`rooms.when`, `team.when`): a checked part of CEL, the Common Expression Language.
//!
//! An expression is parsed once and its types are checked before it is ever run, so that a slip (`class = 'O'`, an unknown name, a text where a
//! truth is wanted) is an error of the configuration and never of a night. What it may ask is [`VARIABLES`] and nothing else: no name, no id, no
//! diagnosis. What a visit does not say is the empty text. An expression that still fails when it runs gives `None`, which narrows.

use std::sync::Arc;

use cel::Context;
use cel::Env;
use cel::IdedExpr;
use cel::Program;
use cel::Value;
use cel::common::ast::Expr;
use cel::common::ast::LiteralValue;

use crate::care::policy::Condition;
use crate::care::policy::VisitView;
use crate::care::room::RoomStatus;
use crate::config::shape::listed;
use crate::ids::HospitalService;
use crate::ids::PatientClass;

/// What a type of expression is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Type {
    Truth,
    Text,
    Number,
    Texts,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Truth => "true or false",
            Self::Text => "text",
            Self::Number => "a number",
            Self::Texts => "a list of texts",
        }
    }
}

/// Everything a condition may ask.
const VARIABLES: [(&str, Type, fn(&VisitView<'_>) -> Value); 10] = [
    ("class", Type::Text, |visit| text(visit.class.map(PatientClass::as_str))),
    ("facility", Type::Text, |visit| text(visit.place.map(|place| place.facility.as_str()))),
    ("point_of_care", Type::Text, |visit| text(visit.place.map(|place| place.point_of_care.as_str()))),
    ("room", Type::Text, |visit| text(visit.place.map(|place| place.room.as_str()))),
    ("bed", Type::Text, |visit| text(visit.place.map(|place| place.bed.as_str()))),
    ("service", Type::Text, |visit| text(visit.service.map(HospitalService::as_str))),
    ("status", Type::Text, |visit| text(visit.status.map(RoomStatus::as_str))),
    ("confidentiality", Type::Text, |visit| text(Some(visit.confidentiality.as_str()))),
    ("admitted", Type::Truth, |visit| Value::Bool(visit.admitted)),
    ("has_bed", Type::Truth, |visit| Value::Bool(visit.has_bed)),
];

fn text(value: Option<&str>) -> Value {
    Value::from(value.unwrap_or_default())
}

/// Longer expressions are refused: the parser's need of stack grows with what it reads.
const MAX_LENGTH: usize = 2000;
/// Deeper ones too: each level costs stack whenever a visit is planned.
const MAX_DEPTH: usize = 16;
/// The stack of the parser, which runs on a thread of its own: enough for the deepest text of [`MAX_LENGTH`] in a debug build.
const PARSER_STACK: usize = 256 << 20;

/// Compiles an expression.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn compile(source: &str) -> Result<Condition, String> {
    if source.len() > MAX_LENGTH {
        return Err(format!("must be at most {MAX_LENGTH} bytes long"));
    }
    let env = Arc::new(Env::stdlib());
    let program = parse(source)?;
    let asked: Vec<_> = VARIABLES.into_iter().filter(|(name, ..)| program.references().has_variable(name)).collect();
    Ok(Condition::new(source, move |visit| {
        let mut context = Context::with_env(Arc::clone(&env));
        for (name, _, value) in &asked {
            context.add_variable_from_value(*name, value(visit));
        }
        match program.execute(&context) {
            Ok(Value::Bool(holds)) => Some(holds),
            _ => None,
        }
    }))
}

/// Parses and checks; what is refused is also dropped on the thread that has the stack for it.
fn parse(source: &str) -> Result<Program, String> {
    let source = source.to_owned();
    let work = move || {
        let program = Program::compile(&source).map_err(|errors| {
            let first = errors.errors.first().map(|error| format!(" at character {}", error.pos.1));
            format!("is not a CEL expression: it cannot be read{}", first.unwrap_or_default())
        })?;
        match type_of(program.expression(), MAX_DEPTH)? {
            Type::Truth => Ok(program),
            other @ (Type::Text | Type::Number | Type::Texts) => Err(format!("must be true or false, not {}", other.name())),
        }
    };
    let thread = std::thread::Builder::new().stack_size(PARSER_STACK).spawn(work);
    let joined = thread.map_err(|_| "cannot be compiled: no thread could be started".to_owned())?.join();
    joined.unwrap_or_else(|_| Err("is not a CEL expression".to_owned()))
}

fn type_of(expression: &IdedExpr, depth: usize) -> Result<Type, String> {
    let depth = depth.checked_sub(1).ok_or_else(|| "is nested too deeply".to_owned())?;
    match &expression.expr {
        Expr::Ident(name) => VARIABLES.iter().find(|(known, ..)| known == name).map(|(_, kind, _)| *kind).ok_or_else(|| {
            let known: Vec<&str> = VARIABLES.iter().map(|(known, ..)| *known).collect();
            format!("asks for `{name}`, which is none of {}", listed(&known))
        }),
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Ok(Type::Truth),
            LiteralValue::String(_) => Ok(Type::Text),
            LiteralValue::Int(_) | LiteralValue::UInt(_) => Ok(Type::Number),
            LiteralValue::Bytes(_) | LiteralValue::Double(_) | LiteralValue::Null => {
                Err("holds a value that is no text, whole number or truth".to_owned())
            }
        },
        Expr::List(list) => {
            for element in &list.elements {
                if type_of(element, depth)? != Type::Text {
                    return Err("has a list that holds something other than texts".to_owned());
                }
            }
            Ok(Type::Texts)
        }
        Expr::Call(call) => {
            let arguments = call.target.as_deref().into_iter().chain(&call.args);
            let types = arguments.map(|argument| type_of(argument, depth)).collect::<Result<Vec<_>, _>>()?;
            type_of_call(&call.func_name, &types)
        }
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Map(_) | Expr::Select(_) | Expr::Struct(_) => {
            Err("uses a part of CEL that a visit has no use for: fields, maps and macros".to_owned())
        }
    }
}

fn type_of_call(function: &str, arguments: &[Type]) -> Result<Type, String> {
    use Type::Number;
    use Type::Text;
    use Type::Texts;
    use Type::Truth;
    match (function, arguments) {
        ("_&&_" | "_||_", arguments) if arguments.iter().all(|kind| *kind == Truth) => Ok(Truth),
        ("!_", [Truth])
        | ("@in", [Text, Texts])
        | ("startsWith" | "endsWith" | "contains", [Text, Text])
        | ("_<_" | "_<=_" | "_>_" | "_>=_", [Number, Number] | [Text, Text]) => Ok(Truth),
        ("_==_" | "_!=_", [left, right]) if left == right => Ok(Truth),
        ("size", [Text | Texts]) => Ok(Number),
        ("_+_", [Text, Text]) => Ok(Text),
        ("_?_:_", [Truth, left, right]) if left == right => Ok(*left),
        _ => {
            let name = function.trim_matches(['_', '@']).replace("_:", ":");
            let kinds: Vec<&str> = arguments.iter().map(|kind| kind.name()).collect();
            Err(format!("has `{name}` of {}, which means nothing here", if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(" and ") }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::prelude::prop;
    use proptest::prelude::proptest;

    use super::HospitalService;
    use super::PatientClass;
    use super::RoomStatus;
    use super::compile;
    use crate::care::fact::BedLocation;
    use crate::care::policy::VisitView;
    use crate::ids::Facility;
    use crate::ids::PointOfCare;

    #[test]
    fn every_variable_can_be_asked() {
        let class = PatientClass::from("O");
        let place = BedLocation {
            facility: Facility::from("GHH"),
            point_of_care: PointOfCare::from("4N"),
            room: "12".into(),
            bed: "A".into(),
            building: "".into(),
        };
        let service = HospitalService::from("CAR");
        let visit = VisitView {
            class: Some(&class),
            place: Some(&place),
            service: Some(&service),
            status: Some(RoomStatus::OnLeave),
            admitted: true,
            has_bed: true,
            ..VisitView::default()
        };
        let check = |source: &str, visit: &VisitView<'_>, holds: bool| assert_eq!(compile(source).unwrap().holds(visit), holds, "{source}");
        for source in [
            "class == 'O' && has_bed",
            "facility == 'GHH' && point_of_care.startsWith('4') && room == \"12\" && bed in ['A', 'B']",
            "service != 'PSY' || false",
            "status == 'on_leave' && confidentiality == 'normal'",
            "admitted ? size(bed) > 0 : class == 'I'",
            "!(facility + point_of_care == '')",
        ] {
            check(source, &visit, true);
        }
        let nothing = VisitView::default();
        check("class == 'O'", &nothing, false);
        check("class == '' && bed == '' && status == ''", &nothing, true);
    }

    #[test]
    fn what_cannot_mean_anything_is_refused() {
        let check = |source: &str, rule: &str| assert_eq!(compile(source).err().as_deref(), Some(rule), "{source}");
        let known = "`class`, `facility`, `point_of_care`, `room`, `bed`, `service`, `status`, `confidentiality`, `admitted`, `has_bed`";
        check("klass == 'O'", &format!("asks for `klass`, which is none of {known}"));
        check("class == 'ZZ' && family == 'SMITH'", &format!("asks for `family`, which is none of {known}"));
        check("class", "must be true or false, not text");
        check("size(class)", "must be true or false, not a number");
        check("class = 'O'", "is not a CEL expression: it cannot be read at character 7");
        check("class == 1", "has `==` of text and a number, which means nothing here");
        check("class == 'ZZ' && matches(class)", "has `matches` of text, which means nothing here");
        check("['a'].exists(x, x == class)", "uses a part of CEL that a visit has no use for: fields, maps and macros");
        check("class.name == 'O'", "uses a part of CEL that a visit has no use for: fields, maps and macros");
        check(&format!("{}true", "!!".repeat(1000)), "must be at most 2000 bytes long");
        check(&format!("{}''  == ''", "'' + ".repeat(40)), "is nested too deeply");
    }

    #[test]
    fn the_deepest_that_is_allowed_runs_on_a_small_stack() {
        let deep = format!("{}class == ''", "class + ".repeat(12));
        let condition = compile(&deep).unwrap();
        assert!(condition.holds(&VisitView::default()));
    }

    #[test]
    fn deep_nesting_never_exhausts_the_stack() {
        for (open, close) in [("(", ")"), ("[", "]"), ("true?true:", ""), ("-", ""), ("class.", ""), ("class||", "")] {
            let n = 1900 / (open.len() + close.len());
            assert!(compile(&format!("{}class{}", open.repeat(n), close.repeat(n))).is_err(), "{open}");
        }
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

        #[test]
        fn no_text_makes_it_panic(source in any::<String>()) {
            drop(compile(&source).map(|condition| condition.holds(&VisitView::default())));
        }

        #[test]
        fn no_run_of_tokens_makes_it_panic(tokens in prop::collection::vec(prop::sample::select(
            vec!["class", "has_bed", "==", "&&", "||", "!", "(", ")", "'a'", "in", "[", "]", "?", ":", ".", "size", "1", "-", "+", "<"]), 0..30)) {
            drop(compile(&tokens.join(" ")).map(|condition| condition.holds(&VisitView::default())));
        }
    }
}
