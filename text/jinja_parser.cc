#include "text/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "text/jinja_lexer.h"

namespace thimble::jinja {
namespace {

// Chains such as a + b + c + ... nest without recursion in the parser; this bounds the tree they build.
constexpr int kMaxTreeDepth = 500;

using Names = std::initializer_list<std::string_view>;

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(Tokenize(source)) {}

  Body Run() { return ParseBody({}); }

 private:
  // ---- token stream ----
  const LexedToken& Current() const { return tokens_[pos_]; }
  const LexedToken& Peek() const { return tokens_[std::min(pos_ + 1, tokens_.size() - 1)]; }
  const LexedToken& Take() {
    const LexedToken& token = tokens_[pos_];
    if (token.type != Token::kEnd) ++pos_;
    return token;
  }
  bool Is(Token type) const { return Current().type == type; }
  bool IsOperator(std::string_view text) const { return Is(Token::kOperator) && Current().text == text; }
  bool IsName(std::string_view text) const { return Is(Token::kName) && Current().text == text; }
  bool AcceptOperator(std::string_view text) { return IsOperator(text) ? (Take(), true) : false; }
  bool AcceptName(std::string_view text) { return IsName(text) ? (Take(), true) : false; }

  static std::string Describe(const LexedToken& token) {
    switch (token.type) {
      case Token::kEnd:
        return "the end of the template";
      case Token::kVariableEnd:
        return "'}}'";
      case Token::kBlockEnd:
        return "'%}'";
      case Token::kInteger:
      case Token::kFloat:
        return "a number";
      case Token::kString:
        return "a string";
      default:
        return "'" + token.text + "'";
    }
  }

  [[noreturn]] void Expected(std::string_view what) const {
    FailAt(Current().line, "expected {}, got {}", what, Describe(Current()));
  }
  const LexedToken& Expect(Token type, std::string_view what) {
    if (!Is(type)) Expected(what);
    return Take();
  }
  void ExpectOperator(std::string_view text) {
    if (!AcceptOperator(text)) Expected(fmt::format("'{}'", text));
  }
  void ExpectName(std::string_view text) {
    if (!AcceptName(text)) Expected(fmt::format("'{}'", text));
  }

  struct Level {
    explicit Level(Parser& p) : parser(p) {
      if (++parser.level_ > kMaxSyntaxDepth) {
        FailAt(parser.Current().line, "the template is nested deeper than {} levels", kMaxSyntaxDepth);
      }
    }
    ~Level() { --parser.level_; }
    Parser& parser;
  };

  // ---- nodes ----
  static ExprPtr MakeExpr(ExprKind kind, int line) {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    return expr;
  }

  template <typename... Items>
  static ExprPtr MakeTree(ExprKind kind, int line, Items... items) {
    auto expr = MakeExpr(kind, line);
    (expr->items.push_back(std::move(items)), ...);
    return Sized(std::move(expr));
  }

  // Sets the depth of a finished tree and checks it.
  static ExprPtr Sized(ExprPtr expr) {
    int depth = 0;
    const auto absorb = [&](const ExprPtr& child) { depth = std::max(depth, child ? child->depth : 0); };
    for (const auto& item : expr->items) absorb(item);
    for (const auto& item : expr->call.positional) absorb(item);
    for (const auto& [name, item] : expr->call.named) absorb(item);
    absorb(expr->call.star);
    absorb(expr->call.double_star);
    expr->depth = depth + 1;
    if (expr->depth > kMaxTreeDepth)
      FailAt(expr->line, "an expression is deeper than {} levels", kMaxTreeDepth);
    return expr;
  }

  static ExprPtr MakeConstant(Value value, int line) {
    auto expr = MakeExpr(ExprKind::kConstant, line);
    expr->constant = std::move(value);
    return expr;
  }

  static StmtPtr MakeStmt(StmtKind kind, int line) {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = line;
    return stmt;
  }

  // ---- bodies and statements ----

  // Up to a block tag with one of the names in `ends`, whose name becomes the current token.
  Body ParseBody(Names ends) {
    Body body;
    while (true) {
      const int line = Current().line;
      if (Is(Token::kData)) {
        auto stmt = MakeStmt(StmtKind::kText, line);
        stmt->text = Take().text;
        body.push_back(std::move(stmt));
      } else if (Is(Token::kVariableBegin)) {
        Take();
        auto stmt = MakeStmt(StmtKind::kOutput, line);
        stmt->value = ParseTuple(true, {});
        body.push_back(std::move(stmt));
        Expect(Token::kVariableEnd, "'}}'");
      } else if (Is(Token::kBlockBegin)) {
        Take();
        const bool at_end =
            Is(Token::kName) && std::find(ends.begin(), ends.end(), Current().text) != ends.end();
        if (at_end) return body;
        ParseStatement(&body);
        Expect(Token::kBlockEnd, "'%}'");
      } else {  // the end
        if (ends.size() == 0) return body;
        FailAt(line, "unexpected end of template, a block is not closed with '{}'", *(ends.end() - 1));
      }
    }
  }

  // The rest of an opening tag, then the body; consumes the end name if there is just one.
  Body ParseBlock(Names ends) {
    AcceptOperator(":");
    Expect(Token::kBlockEnd, "'%}'");
    Body body = ParseBody(ends);
    if (ends.size() == 1) Take();
    return body;
  }

  void ParseStatement(Body* out) {
    const Level level(*this);
    const LexedToken& tag = Expect(Token::kName, "the name of a tag");
    const int line = tag.line;
    const std::string& name = tag.text;
    if (name == "if") return out->push_back(ParseIf(line));
    if (name == "for") return out->push_back(ParseFor(line));
    if (name == "set") return out->push_back(ParseSet(line));
    if (name == "macro") return out->push_back(ParseMacro(line));
    if (name == "call") return out->push_back(ParseCallBlock(line));
    if (name == "filter") return out->push_back(ParseFilterBlock(line));
    if (name == "with") return out->push_back(ParseWith(line));
    if (name == "generation") return out->push_back(ParseGeneration(line));
    if (name == "block") return out->push_back(ParseNamedBlock(line));
    if (name == "print") return ParsePrint(line, out);
    if (name == "break" || name == "continue") {
      if (loop_depth_ == 0) FailAt(line, "'{}' outside of a loop", name);
      return out->push_back(MakeStmt(name == "break" ? StmtKind::kBreak : StmtKind::kContinue, line));
    }
    FailAt(line, "the tag '{}' is unknown or not supported here", name);
  }

  StmtPtr ParseIf(int line) {
    auto stmt = MakeStmt(StmtKind::kIf, line);
    while (true) {
      ExprPtr condition = ParseTuple(false, {});
      Body body = ParseBlock({"elif", "else", "endif"});
      stmt->branches.emplace_back(std::move(condition), std::move(body));
      const std::string& end = Take().text;
      if (end == "elif") continue;
      if (end == "else") stmt->branches.emplace_back(nullptr, ParseBlock({"endif"}));
      return stmt;
    }
  }

  StmtPtr ParseFor(int line) {
    auto stmt = MakeStmt(StmtKind::kFor, line);
    ++for_depth_;
    stmt->target = ParseTarget({"in"}, false);
    ExpectName("in");
    stmt->value = ParseTuple(false, {"recursive"});
    if (AcceptName("if")) stmt->test = ParseExpression();
    stmt->recursive = AcceptName("recursive");
    ++loop_depth_;
    stmt->body = ParseBlock({"endfor", "else"});
    --loop_depth_;
    if (Take().text == "else") stmt->else_body = ParseBlock({"endfor"});
    --for_depth_;
    return stmt;
  }

  StmtPtr ParseSet(int line) {
    auto target = ParseTarget({}, true);
    if (AcceptOperator("=")) {
      auto stmt = MakeStmt(StmtKind::kSet, line);
      stmt->target = std::move(target);
      stmt->value = ParseTuple(true, {});
      return stmt;
    }
    auto stmt = MakeStmt(StmtKind::kSetBlock, line);
    stmt->target = std::move(target);
    if (IsOperator("|")) stmt->filter = ParseFilters(nullptr);
    stmt->body = ParseBlock({"endset"});
    return stmt;
  }

  // Parses a macro's body, and notes which of its special variables it reads. A macro is a function of its
  // own: break and continue do not cross it.
  void ParseMacroBody(MacroSyntax* macro, std::string_view end) {
    const bool outer_caller = uses_caller_, outer_kwargs = uses_kwargs_, outer_varargs = uses_varargs_;
    const int outer_loops = loop_depth_;
    uses_caller_ = uses_kwargs_ = uses_varargs_ = false;
    loop_depth_ = 0;
    macro->body = ParseBlock({end});
    const auto is_parameter = [&](std::string_view name) {
      return std::find(macro->parameters.begin(), macro->parameters.end(), name) != macro->parameters.end();
    };
    macro->uses_caller = uses_caller_ && !is_parameter("caller");
    macro->uses_kwargs = uses_kwargs_ && !is_parameter("kwargs");
    macro->uses_varargs = uses_varargs_ && !is_parameter("varargs");
    uses_caller_ |= outer_caller;
    uses_kwargs_ |= outer_kwargs;
    uses_varargs_ |= outer_varargs;
    loop_depth_ = outer_loops;
  }

  void ParseSignature(MacroSyntax* macro) {
    ExpectOperator("(");
    while (!IsOperator(")")) {
      if (!macro->parameters.empty()) ExpectOperator(",");
      const LexedToken& name = Expect(Token::kName, "the name of a parameter");
      if (std::find(macro->parameters.begin(), macro->parameters.end(), name.text) !=
          macro->parameters.end()) {
        FailAt(name.line, "the parameter '{}' is given twice", name.text);
      }
      macro->parameters.push_back(name.text);
      if (AcceptOperator("=")) {
        macro->defaults.push_back(ParseExpression());
      } else if (!macro->defaults.empty()) {
        FailAt(Current().line, "a parameter without a default follows one with a default");
      }
    }
    ExpectOperator(")");
  }

  StmtPtr ParseMacro(int line) {
    auto stmt = MakeStmt(StmtKind::kMacro, line);
    stmt->macro = std::make_unique<MacroSyntax>();
    stmt->macro->name = Expect(Token::kName, "the name of a macro").text;
    ParseSignature(stmt->macro.get());
    ParseMacroBody(stmt->macro.get(), "endmacro");
    return stmt;
  }

  StmtPtr ParseCallBlock(int line) {
    auto stmt = MakeStmt(StmtKind::kCall, line);
    stmt->macro = std::make_unique<MacroSyntax>();
    stmt->macro->name = "caller";
    if (IsOperator("(")) ParseSignature(stmt->macro.get());
    stmt->value = ParseExpression();
    if (stmt->value->kind != ExprKind::kCall) FailAt(line, "expected a call");
    ParseMacroBody(stmt->macro.get(), "endcall");
    return stmt;
  }

  StmtPtr ParseFilterBlock(int line) {
    auto stmt = MakeStmt(StmtKind::kFilter, line);
    stmt->filter = ParseFilters(nullptr, /*inline_start=*/true);
    stmt->body = ParseBlock({"endfilter"});
    return stmt;
  }

  StmtPtr ParseWith(int line) {
    auto stmt = MakeStmt(StmtKind::kWith, line);
    while (!Is(Token::kBlockEnd)) {
      if (!stmt->bindings.empty()) ExpectOperator(",");
      ExprPtr target = ParseTarget({}, false);
      ExpectOperator("=");
      ExprPtr value = ParseExpression();
      stmt->bindings.emplace_back(std::move(target), std::move(value));
    }
    stmt->body = ParseBlock({"endwith"});
    return stmt;
  }

  // Transformers' tag around what the model itself says: a call block whose only effect is its scope.
  StmtPtr ParseGeneration(int line) {
    auto stmt = MakeStmt(StmtKind::kScope, line);
    MacroSyntax caller;
    ParseMacroBody(&caller, "endgeneration");
    stmt->body = std::move(caller.body);
    return stmt;
  }

  // Without inheritance a block is a named scope.
  StmtPtr ParseNamedBlock(int line) {
    auto stmt = MakeStmt(StmtKind::kScope, line);
    const std::string name = Expect(Token::kName, "the name of a block").text;
    const int outer_loops = loop_depth_;
    loop_depth_ = 0;
    stmt->body = ParseBlock({"endblock"});
    loop_depth_ = outer_loops;
    AcceptName(name);
    return stmt;
  }

  void ParsePrint(int line, Body* out) {
    for (bool first = true; !Is(Token::kBlockEnd); first = false) {
      if (!first) ExpectOperator(",");
      auto stmt = MakeStmt(StmtKind::kOutput, line);
      stmt->value = ParseExpression();
      out->push_back(std::move(stmt));
    }
  }

  // ---- targets of assignments ----
  ExprPtr ParseTarget(Names ends, bool namespaces) {
    const int line = Current().line;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    while (true) {
      if (!items.empty()) ExpectOperator(",");
      if (AtTupleEnd(ends)) break;
      items.push_back(ParsePrimary(namespaces));
      CheckTarget(*items.back());
      if (!IsOperator(",")) break;
      is_tuple = true;
    }
    if (items.empty()) Expected("a name to assign to");
    if (!is_tuple) return std::move(items[0]);
    auto tuple = MakeExpr(ExprKind::kTuple, line);
    tuple->items = std::move(items);
    return Sized(std::move(tuple));
  }

  void CheckTarget(const Expr& target) const {
    switch (target.kind) {
      case ExprKind::kName:
        if (target.name == "loop" && for_depth_ > 0)
          FailAt(target.line, "cannot assign to 'loop' in a for loop");
        return;
      case ExprKind::kNamespaceRef:
        return;
      case ExprKind::kTuple:
        for (const auto& item : target.items) CheckTarget(*item);
        return;
      default:
        FailAt(target.line, "cannot assign to this expression");
    }
  }

  // ---- expressions, loosest binding first ----
  ExprPtr ParseExpression() {
    const Level level(*this);
    const int line = Current().line;
    ExprPtr expr = ParseOr();
    while (AcceptName("if")) {
      ExprPtr condition = ParseOr();
      ExprPtr otherwise = AcceptName("else") ? ParseExpression() : nullptr;
      expr =
          MakeTree(ExprKind::kCondition, line, std::move(expr), std::move(condition), std::move(otherwise));
    }
    return expr;
  }

  ExprPtr ParseOr() {
    ExprPtr left = ParseAnd();
    for (int line = Current().line; AcceptName("or"); line = Current().line) {
      left = MakeTree(ExprKind::kOr, line, std::move(left), ParseAnd());
    }
    return left;
  }

  ExprPtr ParseAnd() {
    ExprPtr left = ParseNot();
    for (int line = Current().line; AcceptName("and"); line = Current().line) {
      left = MakeTree(ExprKind::kAnd, line, std::move(left), ParseNot());
    }
    return left;
  }

  ExprPtr ParseNot() {
    const Level level(*this);
    const int line = Current().line;
    if (AcceptName("not")) return MakeTree(ExprKind::kNot, line, ParseNot());
    return ParseCompare();
  }

  std::optional<CompareOp> AcceptCompare() {
    if (Is(Token::kOperator)) {
      constexpr std::pair<std::string_view, CompareOp> kOps[] = {
          {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<", CompareOp::kLt},
          {"<=", CompareOp::kLe}, {">", CompareOp::kGt},  {">=", CompareOp::kGe}};
      for (const auto& [text, op] : kOps) {
        if (AcceptOperator(text)) return op;
      }
      return std::nullopt;
    }
    if (AcceptName("in")) return CompareOp::kIn;
    if (IsName("not") && Peek().type == Token::kName && Peek().text == "in") {
      Take();
      Take();
      return CompareOp::kNotIn;
    }
    return std::nullopt;
  }

  ExprPtr ParseCompare() {
    const int line = Current().line;
    ExprPtr first = ParseSum();
    ExprPtr compare;
    while (const auto op = AcceptCompare()) {
      if (!compare) {
        compare = MakeExpr(ExprKind::kCompare, line);
        compare->items.push_back(std::move(first));
      }
      compare->compares.push_back(*op);
      compare->items.push_back(ParseSum());
    }
    return compare ? Sized(std::move(compare)) : std::move(first);
  }

  static ExprPtr MakeBinary(BinaryOp op, int line, ExprPtr left, ExprPtr right) {
    auto expr = MakeTree(ExprKind::kBinary, line, std::move(left), std::move(right));
    expr->binary = op;
    return expr;
  }

  ExprPtr ParseSum() {
    ExprPtr left = ParseConcat();
    while (IsOperator("+") || IsOperator("-")) {
      const int line = Current().line;
      const BinaryOp op = Take().text == "+" ? BinaryOp::kAdd : BinaryOp::kSub;
      left = MakeBinary(op, line, std::move(left), ParseConcat());
    }
    return left;
  }

  ExprPtr ParseConcat() {
    const int line = Current().line;
    ExprPtr first = ParseProduct();
    if (!IsOperator("~")) return first;
    auto concat = MakeExpr(ExprKind::kConcat, line);
    concat->items.push_back(std::move(first));
    while (AcceptOperator("~")) concat->items.push_back(ParseProduct());
    return Sized(std::move(concat));
  }

  ExprPtr ParseProduct() {
    ExprPtr left = ParsePower();
    while (IsOperator("*") || IsOperator("/") || IsOperator("//") || IsOperator("%")) {
      const int line = Current().line;
      const std::string& text = Take().text;
      const BinaryOp op = text == "*"    ? BinaryOp::kMul
                          : text == "/"  ? BinaryOp::kDiv
                          : text == "//" ? BinaryOp::kFloorDiv
                                         : BinaryOp::kMod;
      left = MakeBinary(op, line, std::move(left), ParsePower());
    }
    return left;
  }

  ExprPtr ParsePower() {
    ExprPtr left = ParseUnary(true);
    for (int line = Current().line; AcceptOperator("**"); line = Current().line) {
      left = MakeBinary(BinaryOp::kPow, line, std::move(left), ParseUnary(true));
    }
    return left;
  }

  ExprPtr ParseUnary(bool with_filter) {
    const Level level(*this);
    const int line = Current().line;
    ExprPtr expr;
    if (AcceptOperator("-")) {
      expr = MakeTree(ExprKind::kNegate, line, ParseUnary(false));
    } else if (AcceptOperator("+")) {
      expr = MakeTree(ExprKind::kPlus, line, ParseUnary(false));
    } else {
      expr = ParsePrimary(false);
    }
    expr = ParsePostfix(std::move(expr));
    return with_filter ? ParseFilterExpression(std::move(expr)) : std::move(expr);
  }

  ExprPtr ParsePrimary(bool namespaces) {
    const Level level(*this);
    const LexedToken& token = Current();
    const int line = token.line;
    switch (token.type) {
      case Token::kName:
        return ParseNameOrLiteral(namespaces);
      case Token::kString: {
        std::string text;
        while (Is(Token::kString)) text += Take().text;
        return MakeConstant(Value::String(std::move(text)), line);
      }
      case Token::kInteger:
      case Token::kFloat:
        return MakeConstant(Take().number, line);
      default:
        break;
    }
    if (AcceptOperator("(")) {
      ExprPtr expr = ParseTuple(true, {}, /*in_parentheses=*/true);
      ExpectOperator(")");
      return expr;
    }
    if (IsOperator("[")) return ParseList();
    if (IsOperator("{")) return ParseDict();
    Expected("an expression");
  }

  ExprPtr ParseNameOrLiteral(bool namespaces) {
    const LexedToken& token = Take();
    const std::string& name = token.text;
    if (name == "true" || name == "True") return MakeConstant(Value::Bool(true), token.line);
    if (name == "false" || name == "False") return MakeConstant(Value::Bool(false), token.line);
    if (name == "none" || name == "None") return MakeConstant(Value::None(), token.line);
    auto expr = MakeExpr(ExprKind::kName, token.line);
    expr->name = name;
    if (namespaces && AcceptOperator(".")) {
      expr->kind = ExprKind::kNamespaceRef;
      expr->attribute = Expect(Token::kName, "the name of an attribute").text;
    }
    uses_caller_ |= name == "caller";
    uses_kwargs_ |= name == "kwargs";
    uses_varargs_ |= name == "varargs";
    return expr;
  }

  bool AtTupleEnd(Names ends) const {
    if (Is(Token::kVariableEnd) || Is(Token::kBlockEnd) || IsOperator(")")) return true;
    return Is(Token::kName) && std::find(ends.begin(), ends.end(), Current().text) != ends.end();
  }

  // One expression, or several with commas between them as a tuple.
  ExprPtr ParseTuple(bool with_condition, Names ends, bool in_parentheses = false) {
    const int line = Current().line;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    while (true) {
      if (!items.empty()) ExpectOperator(",");
      if (AtTupleEnd(ends)) break;
      items.push_back(with_condition ? ParseExpression() : ParseOr());
      if (!IsOperator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items[0]);
    if (!is_tuple && !in_parentheses) Expected("an expression");
    auto tuple = MakeExpr(ExprKind::kTuple, line);
    tuple->items = std::move(items);
    return Sized(std::move(tuple));
  }

  ExprPtr ParseList() {
    auto list = MakeExpr(ExprKind::kList, Current().line);
    ExpectOperator("[");
    while (!IsOperator("]")) {
      if (!list->items.empty()) ExpectOperator(",");
      if (IsOperator("]")) break;
      list->items.push_back(ParseExpression());
    }
    ExpectOperator("]");
    return Sized(std::move(list));
  }

  ExprPtr ParseDict() {
    auto dict = MakeExpr(ExprKind::kDict, Current().line);
    ExpectOperator("{");
    while (!IsOperator("}")) {
      if (!dict->items.empty()) ExpectOperator(",");
      if (IsOperator("}")) break;
      dict->items.push_back(ParseExpression());
      ExpectOperator(":");
      dict->items.push_back(ParseExpression());
    }
    ExpectOperator("}");
    return Sized(std::move(dict));
  }

  ExprPtr ParsePostfix(ExprPtr expr) {
    while (true) {
      if (IsOperator(".")) {
        expr = ParseDot(std::move(expr));
      } else if (IsOperator("[")) {
        expr = ParseSubscript(std::move(expr));
      } else if (IsOperator("(")) {
        expr = ParseCall(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr ParseFilterExpression(ExprPtr expr) {
    while (true) {
      if (IsOperator("|")) {
        expr = ParseFilters(std::move(expr));
      } else if (IsName("is")) {
        expr = ParseTest(std::move(expr));
      } else if (IsOperator("(")) {
        expr = ParseCall(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr ParseDot(ExprPtr object) {
    const int line = Take().line;
    if (Is(Token::kInteger)) {
      return MakeTree(ExprKind::kItem, line, std::move(object), MakeConstant(Take().number, line));
    }
    const std::string name = Expect(Token::kName, "a name or a number").text;
    auto expr = MakeTree(ExprKind::kAttribute, line, std::move(object));
    expr->name = name;
    return expr;
  }

  ExprPtr ParseSubscript(ExprPtr object) {
    const int line = Take().line;
    std::vector<ExprPtr> arguments;
    while (!IsOperator("]")) {
      if (!arguments.empty()) ExpectOperator(",");
      if (arguments.empty()) {
        if (ExprPtr slice = ParseSliceOrNull(&object, line, &arguments)) {
          ExpectOperator("]");
          return slice;
        }
      } else {
        arguments.push_back(ParseExpression());
      }
    }
    ExpectOperator("]");
    if (arguments.size() == 1) {
      return MakeTree(ExprKind::kItem, line, std::move(object), std::move(arguments[0]));
    }
    auto tuple = MakeExpr(ExprKind::kTuple, line);
    tuple->items = std::move(arguments);
    return MakeTree(ExprKind::kItem, line, std::move(object), Sized(std::move(tuple)));
  }

  // object[start:stop:step], or null with a plain subscript in `arguments`.
  ExprPtr ParseSliceOrNull(ExprPtr* object, int line, std::vector<ExprPtr>* arguments) {
    ExprPtr start = IsOperator(":") ? nullptr : ParseExpression();
    if (!AcceptOperator(":")) {
      arguments->push_back(std::move(start));
      return nullptr;
    }
    const auto bound = [&] { return IsOperator(":") || IsOperator("]") ? nullptr : ParseExpression(); };
    ExprPtr stop = bound();
    ExprPtr step = AcceptOperator(":") ? bound() : nullptr;
    return MakeTree(ExprKind::kSlice, line, std::move(*object), std::move(start), std::move(stop),
                    std::move(step));
  }

  CallSyntax ParseArguments() {
    const int line = Current().line;
    const auto ensure = [&](bool valid) {
      if (!valid) FailAt(line, "invalid syntax for function call expression");
    };
    CallSyntax call;
    ExpectOperator("(");
    for (bool first = true; !IsOperator(")"); first = false) {
      if (!first) ExpectOperator(",");
      if (IsOperator(")")) break;
      if (AcceptOperator("*")) {
        ensure(!call.star && !call.double_star);
        call.star = ParseExpression();
      } else if (AcceptOperator("**")) {
        ensure(!call.double_star);
        call.double_star = ParseExpression();
      } else if (Is(Token::kName) && Peek().type == Token::kOperator && Peek().text == "=") {
        ensure(!call.double_star);
        const std::string name = Take().text;
        Take();
        const bool repeated = std::any_of(call.named.begin(), call.named.end(),
                                          [&](const auto& argument) { return argument.first == name; });
        if (repeated) FailAt(line, "the argument '{}' is given twice", name);
        call.named.emplace_back(name, ParseExpression());
      } else {
        ensure(!call.star && !call.double_star && call.named.empty());
        call.positional.push_back(ParseExpression());
      }
    }
    ExpectOperator(")");
    return call;
  }

  ExprPtr ParseCall(ExprPtr callee) {
    auto expr = MakeTree(ExprKind::kCall, Current().line, std::move(callee));
    expr->call = ParseArguments();
    return Sized(std::move(expr));
  }

  std::string ParseDottedName(std::string_view what) {
    std::string name = Expect(Token::kName, what).text;
    while (AcceptOperator(".")) name += "." + Expect(Token::kName, what).text;
    return name;
  }

  ExprPtr ParseFilters(ExprPtr expr, bool inline_start = false) {
    while (inline_start || AcceptOperator("|")) {
      inline_start = false;
      const int line = Current().line;
      const std::string name = ParseDottedName("the name of a filter");
      expr = MakeTree(ExprKind::kFilter, line, std::move(expr));
      expr->name = name;
      if (IsOperator("(")) expr->call = ParseArguments();
      expr = Sized(std::move(expr));
    }
    return expr;
  }

  ExprPtr ParseTest(ExprPtr value) {
    const int line = Take().line;
    const bool negated = AcceptName("not");
    const std::string name = ParseDottedName("the name of a test");
    auto test = MakeTree(ExprKind::kTest, line, std::move(value));
    test->name = name;
    if (IsOperator("(")) {
      test->call = ParseArguments();
    } else if (StartsTestArgument()) {
      if (IsName("is")) FailAt(line, "tests cannot be chained with 'is'");
      test->call.positional.push_back(ParsePostfix(ParsePrimary(false)));
    }
    test = Sized(std::move(test));
    return negated ? MakeTree(ExprKind::kNot, line, std::move(test)) : std::move(test);
  }

  bool StartsTestArgument() const {
    switch (Current().type) {
      case Token::kName:
        return !IsName("else") && !IsName("or") && !IsName("and");
      case Token::kString:
      case Token::kInteger:
      case Token::kFloat:
        return true;
      default:
        return IsOperator("[") || IsOperator("{");
    }
  }

  const std::vector<LexedToken> tokens_;
  size_t pos_ = 0;
  int level_ = 0;
  int loop_depth_ = 0;  // loops that break and continue can leave
  int for_depth_ = 0;   // loops around, macros or not
  bool uses_caller_ = false, uses_kwargs_ = false, uses_varargs_ = false;
};

}  // namespace

Body ParseTemplate(std::string_view source) {
  return Parser(source).Run();
}

}  // namespace thimble::jinja
