package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/lint"
)

// maxLintFiles bounds what is read of a directory.
const maxLintFiles = 5000

const lintLong = `lint reads Dockerfiles, Compose files, manifests of Kubernetes and of Service Fabric, and
credential specs, and says what in them would not use a gMSA, with the line to write
instead. Of a directory it reads what is of such a kind, and leaves hidden directories
out. Files that are named together are judged together: the credential specs among them
tell the accounts.

Images of Windows are judged by whom the application runs as, images of Linux by what
would keep a program from finding the lease's tickets.

It exits with 6 when something is an error; warnings do not count.`

func (a *app) lint() *cobra.Command {
	var o lint.Options
	var name string
	c := &cobra.Command{
		Use:   "lint {FILE | DIRECTORY | -}…",
		Short: "Find what in a Dockerfile or manifest would not use the account",
		Long:  lintLong,
		Example: `  gmsa lint Dockerfile
  gmsa lint deploy/ --windows 1803
  gmsa lint compose.yaml contoso_webapp01.json
  helm template shop | gmsa lint -
  gmsa lint - --name Dockerfile < build.txt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.runLint(args, name, o) },
	}
	c.Flags().StringVar(&o.Windows, "windows", "", "version of the Windows container hosts (default: of the images): "+strings.Join(lint.WindowsVersions(), ", "))
	c.Flags().StringVar(&o.Account, "account", "", "the account (default: of the credential spec, or as its file is called)")
	c.Flags().StringVar(&name, "name", "standard input", "with -: what standard input is called, as in Dockerfile")
	_ = c.RegisterFlagCompletionFunc("windows", cobra.FixedCompletions(lint.WindowsVersions(), cobra.ShellCompDirectiveNoFileComp))
	a.addOutputFlag(c)
	return c
}

func (a *app) runLint(args []string, name string, o lint.Options) error {
	if o.Windows != "" && !slices.Contains(lint.WindowsVersions(), o.Windows) {
		return failure(Usage, fmt.Errorf("--windows %s: want one of %s", o.Windows, strings.Join(lint.WindowsVersions(), ", ")))
	}
	var files []lint.File
	for _, arg := range args {
		found, err := a.lintFiles(arg, name)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	report := lint.Check(files, o)
	if len(report.Files) == 0 {
		return failure(Usage, lint.UnknownKind(strings.Join(args, ", ")))
	}
	if err := a.print(report, func(w io.Writer) error { return writeLint(w, report) }); err != nil {
		return err
	}
	if n := report.Errors(); n > 0 {
		return &Error{Code: Negative, Err: fmt.Errorf("%d errors", n), Shown: true}
	}
	return nil
}

// lintFiles reads what an argument names. A file that is named must be of a known kind; of
// a directory what is of none is left out.
func (a *app) lintFiles(arg, name string) ([]lint.File, error) {
	if info, err := os.Stat(arg); arg != "-" && err == nil && info.IsDir() {
		return lintDirectory(arg)
	}
	b, err := a.readFile(arg, lint.MaxSize)
	if err != nil {
		return nil, err
	}
	if arg != "-" {
		name = arg
	}
	f := lint.File{Name: name, Content: b}
	if _, ok := lint.KindOf(f); !ok {
		return nil, failure(Usage, lint.UnknownKind(name)).hint("of a Dockerfile with another name: gmsa lint - --name Dockerfile < FILE")
	}
	return []lint.File{f}, nil
}

// lintDirectory reads the files below dir that may be of a known kind, by their names. It
// follows no symbolic links.
func lintDirectory(dir string) ([]lint.File, error) {
	var files []lint.File
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.Type().IsRegular() || !mayBeLinted(d.Name()):
			return nil
		case len(files) == maxLintFiles:
			return fmt.Errorf("%s has more than %d files", dir, maxLintFiles)
		}
		info, err := d.Info()
		if err != nil || info.Size() > lint.MaxSize {
			return err
		}
		b, err := readLimited(path, lint.MaxSize)
		if err != nil {
			return err
		}
		f := lint.File{Name: path, Content: b}
		if _, ok := lint.KindOf(f); ok {
			files = append(files, f)
		}
		return nil
	})
	if err == nil && len(files) == 0 {
		return nil, failure(Usage, lint.UnknownKind("what is in "+dir))
	}
	return files, err
}

func mayBeLinted(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "dockerfile") || name == "containerfile" ||
		slices.Contains([]string{".yaml", ".yml", ".json", ".xml"}, filepath.Ext(name))
}

// writeLint prints findings as compilers do, so that editors find their places.
func writeLint(w io.Writer, r lint.Report) error {
	var b strings.Builder
	warnings := 0
	for _, f := range r.Findings {
		if f.Severity == lint.Warning {
			warnings++
		}
		fmt.Fprintf(&b, "%s:%d: %s: %s [%s]\n", printable(f.File), f.Line, f.Severity, printable(f.Problem), f.Rule)
		for _, fix := range f.Fixes {
			fmt.Fprintf(&b, "  write: %s\n", printable(fix))
		}
	}
	fmt.Fprintf(&b, "%d files: %d errors, %d warnings\n", len(r.Files), r.Errors(), warnings)
	_, err := io.WriteString(w, b.String())
	return err
}
