package grouprule

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/env"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

const (
	// maxCost bounds what a rule may cost for one device: about as many
	// steps as comparing two short texts, 20 ns each.
	maxCost = 5000
	// maxDepth bounds how deep a rule is nested.
	maxDepth = 48
	// maxLabels, maxLabelKey and maxText are how much of it a device has at
	// most.
	maxLabels   = 64
	maxLabelKey = 63
	maxText     = 255
)

// The functions that comparing versions becomes. Rules cannot write them: no
// name has an at sign.
const (
	functionOrder = "@order"
	functionAmong = "@among"
)

// language is the language of rules, made once.
var language = sync.OnceValue(func() *cel.Env {
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(subset())),
		cel.ParserExpressionSizeLimit(MaxLength),
		cel.ParserRecursionLimit(maxDepth),
		cel.ASTValidators(cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals(), cel.ValidateRegexLiterals()),
		cel.Function(functionOrder,
			cel.Overload("order_version_version", []*cel.Type{versionType, versionType}, cel.IntType, cel.BinaryBinding(order)),
			cel.Overload("order_version_string", []*cel.Type{versionType, cel.StringType}, cel.IntType, cel.BinaryBinding(order)),
			cel.Overload("order_string_version", []*cel.Type{cel.StringType, versionType}, cel.IntType, cel.BinaryBinding(order))),
		cel.Function(functionAmong,
			cel.Overload("among_version_list", []*cel.Type{versionType, cel.ListType(cel.StringType)}, cel.BoolType, cel.BinaryBinding(among))),
		cel.Function(overloads.TypeConvertString,
			cel.Overload("version_to_string", []*cel.Type{versionType}, cel.StringType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				return v.ConvertToType(types.StringType)
			}))),
		cel.Macros(cel.GlobalMacro(operators.In, 2, expandIn)),
	}
	for _, operator := range comparisons() {
		options = append(options, cel.Macros(cel.GlobalMacro(operator, 2, expandComparison(operator))))
	}
	for _, p := range Properties() {
		options = append(options, cel.Variable(p.Name, p.celType))
	}
	made, err := cel.NewCustomEnv(options...)
	if err != nil {
		panic(fmt.Sprintf("making the language of group rules: %v", err))
	}
	return made
})

func comparisons() []string {
	return []string{operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals}
}

// subset is what there is of the standard language.
func subset() *env.LibrarySubset {
	s := env.NewLibrarySubset().AddIncludedMacros(operators.Has, operators.All, operators.Exists)
	for _, name := range append(comparisons(),
		operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.Conditional, operators.In, operators.Index,
		operators.NotStrictlyFalse, operators.Add, operators.Subtract,
		overloads.Contains, overloads.StartsWith, overloads.EndsWith, overloads.Matches, overloads.Size,
		overloads.TypeConvertString, overloads.TypeConvertTimestamp, overloads.TypeConvertDuration,
	) {
		s.AddIncludedFunctions(env.NewFunction(name))
	}
	return s
}

// expandComparison turns version < "1.10" into @order(version, "1.10") < 0.
// A macro and not an overload, because the language knows equality of one type
// only.
func expandComparison(operator string) cel.MacroFactory {
	return func(helper cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		if !isVersionProperty(args[0]) && !isVersionProperty(args[1]) {
			return nil, nil
		}
		for _, a := range args {
			if err := checkLiteral(helper, a); err != nil {
				return nil, err
			}
		}
		return helper.NewCall(operator, helper.NewCall(functionOrder, args...), helper.NewLiteral(types.IntZero)), nil
	}
}

// expandIn turns version in ["1.4", "1.5"] into @among(version, ["1.4", "1.5"]).
func expandIn(helper cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	if !isVersionProperty(args[0]) {
		return nil, nil
	}
	if args[1].Kind() == ast.ListKind {
		for _, element := range args[1].AsList().Elements() {
			if err := checkLiteral(helper, element); err != nil {
				return nil, err
			}
		}
	}
	return helper.NewCall(functionAmong, args...), nil
}

func isVersionProperty(e ast.Expr) bool {
	if e.Kind() != ast.IdentKind {
		return false
	}
	return byName()[e.AsIdent()].celType == versionType
}

// checkLiteral refuses text that can never be a version.
func checkLiteral(helper cel.MacroExprFactory, e ast.Expr) *cel.Error {
	if e.Kind() != ast.LiteralKind {
		return nil
	}
	if text, ok := e.AsLiteral().(types.String); ok && !isVersion(string(text)) {
		return helper.NewError(e.ID(), fmt.Sprintf("%.80q is no version such as 1.4 or 22.04.1", string(text)))
	}
	return nil
}

// among reports whether a version is one of a list.
func among(v, list ref.Val) ref.Val {
	elements, ok := list.Value().([]ref.Val)
	if !ok {
		return types.NewErr("a %s is no list of versions", list.Type().TypeName())
	}
	for _, e := range elements {
		switch c := order(v, e); {
		case types.IsError(c):
			return c
		case c == types.IntZero:
			return types.True
		}
	}
	return types.False
}

// sizes tells the estimate of costs how large things are at most.
type sizes struct{}

// EstimateSize is part of checker.CostEstimator.
func (sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	most := uint64(maxText)
	if path := node.Path(); len(path) > 0 && path[0] == "labels" {
		switch path[len(path)-1] {
		case "labels":
			most = maxLabels
		case "@keys":
			most = maxLabelKey
		}
	}
	return &checker.SizeEstimate{Min: 0, Max: most}
}

// EstimateCallCost is part of checker.CostEstimator.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
