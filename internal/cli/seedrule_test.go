package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The rule that finds the commands of a document. It sees a line of a fenced block that
// begins with a command, a command that is set in `code` or **bold** inside of a
// sentence, one that a comment says to run, and, in the third document, which has lost
// its fences, a line that begins with one. What it cannot see, and what it sees and is
// only mentioned, testdata/seeds/by-hand.txt has, with the reason.
var (
	seedCommand = regexp.MustCompile(`^(?:PS [^>]*>\s*)?[($]*(?:\w+ = )?\(?(?:(?:Add|Enter|Get|Install|New|Remove|Save|Send|Set|Test|Uninstall)-[A-Z]\w+|docker|nltest|klist|dir|RUN|USER|PsExec64\.exe)(?:[\s:]|$)`)
	seedInline  = regexp.MustCompile("`([^`]+)`|\\*\\*([^*]+)\\*\\*")
	seedAdvice  = regexp.MustCompile(`^#.* (?:run|module) ([A-Z][a-z]+-\S+)`)
)

// seedLinesOf are the lines of one document that the rule finds, as DOC:LINE.
func seedLinesOf(document, text string) []string {
	var lines []string
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if isSeedLine(line, fenced || document == "3") {
			lines = append(lines, fmt.Sprintf("%s:%d", document, i+1))
		}
	}
	return lines
}

func isSeedLine(line string, code bool) bool {
	if code && (seedCommand.MatchString(line) || seedAdvice.MatchString(line)) {
		return true
	}
	return slices.ContainsFunc(seedInline.FindAllStringSubmatch(line, -1), func(m []string) bool {
		return seedCommand.MatchString(m[1] + m[2])
	})
}

// byHand are the lines that a person added to what the rule finds, and took from it.
func byHand(t *testing.T) (added, taken []string) {
	t.Helper()
	b, err := os.ReadFile("testdata/seeds/by-hand.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 3 || !seedLine.MatchString(fields[1]):
			t.Fatalf("by-hand.txt: %q: want + or -, DOC:LINE and a reason", line)
		case fields[0] == "+":
			added = append(added, fields[1])
		default:
			taken = append(taken, fields[1])
		}
	}
	return added, taken
}

// The documents are not part of this project. Where they are, GMSA_SEEDS names their
// directory, GMSA_UPDATE=1 writes lines.txt, and without it the file is checked.
func TestLinesOfTheSeeds(t *testing.T) {
	added, taken := byHand(t)
	b, err := os.ReadFile("testdata/seeds/lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(string(b))
	for _, l := range added {
		if !slices.Contains(list, l) {
			t.Errorf("by-hand.txt adds %s, and lines.txt does not have it", l)
		}
	}
	for _, l := range taken {
		if slices.Contains(list, l) {
			t.Errorf("by-hand.txt takes %s away, and lines.txt has it", l)
		}
	}
	if dir := os.Getenv("GMSA_SEEDS"); dir != "" {
		golden(t, "testdata/seeds/lines.txt", strings.Join(foundLines(t, dir, added, taken), "\n")+"\n")
	}
}

// foundLines applies the rule and the hand to the documents in dir.
func foundLines(t *testing.T, dir string, added, taken []string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "[1-5]-*.md"))
	if err != nil || len(files) != len(documents) {
		t.Fatalf("%d documents in %s, want %d; %v", len(files), dir, len(documents), err)
	}
	lines := slices.Clone(added)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found := seedLinesOf(filepath.Base(f)[:1], string(b))
		for _, l := range added {
			if slices.Contains(found, l) {
				t.Errorf("by-hand.txt adds %s, which the rule finds", l)
			}
		}
		lines = append(lines, slices.DeleteFunc(found, func(l string) bool { return slices.Contains(taken, l) })...)
	}
	slices.SortFunc(lines, compareSeedLines)
	return slices.Compact(lines)
}

func compareSeedLines(a, b string) int {
	var x, y [2]int
	_, _ = fmt.Sscanf(a, "%d:%d", &x[0], &x[1])
	_, _ = fmt.Sscanf(b, "%d:%d", &y[0], &y[1])
	return slices.Compare(x[:], y[:])
}

func TestRuleOfSeedLines(t *testing.T) {
	const text = "Run `Get-KdsRootKey` first.\nGet-KdsRootKey\n```powershell\n# a comment\nAdd-KdsRootKey -EffectiveImmediately\n# To install it, run Install-Module X\nFlags: b0\n" +
		"    $gMSA = Get-ADServiceAccount x\n```\nIf **Test-ADServiceAccount** is False\n`Docker` and `setspn`\n```sql\nGO\n```\n"
	if got, want := seedLinesOf("1", text), []string{"1:1", "1:5", "1:6", "1:8", "1:10"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := seedLinesOf("3", text); !slices.Contains(got, "3:2") {
		t.Errorf("%v: a line of the document without fences is not found", got)
	}
}
