// The grammar of `.danet` files for tree-sitter, alternative by alternative that of
// dsl/syntax/danet.lark. Tests compare the words of the two, and let this one parse every spec.

/** One or more of a rule with commas between them. */
const list = (rule) => seq(rule, repeat(seq(",", rule)));

module.exports = grammar({
  name: "danet",
  extras: ($) => [/\s/, $.comment],
  word: ($) => $.identifier,

  rules: {
    source_file: ($) => repeat(choice($.use, $.declaration)),

    use: ($) =>
      seq("use", field("module", choice($._name, $.library, $.string)), optional(seq("(", list(field("name", $._name)), ")"))),
    declaration: ($) =>
      seq(
        field("kind", $.kind),
        field("name", $._name),
        optional(field("parameters", $.parameters)),
        choice(field("body", $.body), seq("=", field("value", $._value), optional(field("body", $.body)))),
      ),
    kind: () => choice("network", "block", "backbone", "connection", "rule", "neuron", "surrogate", "recipe"),
    parameters: ($) => seq("(", optional(list($.parameter)), ")"),
    parameter: ($) => seq(field("name", $._name), optional(seq("=", field("default", $._value)))),

    body: ($) => seq("{", repeat(seq($._statement, optional(";"))), "}"),
    _statement: ($) => choice($.definition, $.state, $.group),
    definition: ($) =>
      seq(field("name", $._name), optional(seq("[", field("index", $._sum), "]")), "=", field("value", $._value)),
    state: ($) => seq("state", field("name", $._name), "=", field("value", $._value)),
    group: ($) =>
      seq(field("kind", $.identifier), optional(field("name", $.identifier)), field("body", $.body)),

    _value: ($) => choice($._either, $.flow),
    flow: ($) => seq($._either, repeat1(seq("->", $._either))),
    _either: ($) => choice($._test, $.if_else),
    if_else: ($) =>
      seq(field("then", $._test), "if", field("condition", $._test), "else", field("otherwise", $._either)),
    _test: ($) => choice($._conjunction, alias($._or, $.binary)),
    _or: ($) => seq($._test, "or", $._conjunction),
    _conjunction: ($) => choice($._negation, alias($._and, $.binary)),
    _and: ($) => seq($._conjunction, "and", $._negation),
    _negation: ($) => choice($._comparison, alias($._not, $.unary)),
    _not: ($) => seq("not", $._negation),
    _comparison: ($) => choice($._sum, alias($._compare, $.binary)),
    _compare: ($) => seq($._sum, choice("==", "!=", "<=", ">=", "<", ">"), $._sum),
    _sum: ($) => choice($._product, alias($._add, $.binary)),
    _add: ($) => seq($._sum, choice("+", "-"), $._product),
    _product: ($) => choice($._signed, alias($._multiply, $.binary)),
    _multiply: ($) => seq($._product, choice("*", "/"), $._signed),
    _signed: ($) => choice($._part, alias($._negative, $.unary)),
    _negative: ($) => seq("-", $._signed),
    _part: ($) => choice($._postfix, $.via, $.by, $.with),
    via: ($) => seq($._part, "via", field("connection", $._postfix)),
    by: ($) => seq($._part, "by", field("rule", $._postfix)),
    with: ($) => seq($._part, "with", "(", list($.setting), ")"),
    _postfix: ($) => choice($._atom, $.call, $.at),
    call: ($) => seq(field("function", $._name), field("arguments", $.arguments)),
    arguments: ($) => seq("(", optional(list(choice($._value, $.setting, $.each))), ")"),
    setting: ($) => seq(field("name", $._name), "=", field("value", $._value)),
    each: ($) =>
      seq(
        $._value,
        "for",
        field("variable", $._name),
        "in",
        $._sum,
        "..",
        $._sum,
        optional(seq("if", $._test)),
      ),
    at: ($) => seq($._postfix, "[", list(choice($._sum, $.range)), "]"),
    range: ($) => seq($._sum, "..", $._sum),
    _atom: ($) => choice($._name, $.number, $.string, $.parentheses),
    parentheses: ($) => seq("(", $._value, ")"),

    // Kinds of declarations, `in` and `state` are names wherever they do not do their own work.
    _name: ($) =>
      choice($.identifier, alias($.kind, $.identifier), alias("in", $.identifier), alias("state", $.identifier)),
    identifier: () => /[A-Za-z_][A-Za-z0-9_]*/,
    number: () => /[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/,
    library: () => /zoo\.[A-Za-z_][A-Za-z0-9_]*/,
    string: () => /"[^"\n]*"/,
    comment: () => /#[^\n]*/,
  },
});
