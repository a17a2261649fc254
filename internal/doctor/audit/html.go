package audit

import (
	_ "embed"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed report.html
var reportHTML string

// page escapes everything for its place: the names in a directory are whatever somebody
// chose to call himself.
var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"join": func(list []string) string { return strings.Join(list, ", ") },
	"day":  func(t *time.Time) string { return t.Format("2006-01-02 15:04") },
}).Parse(reportHTML))

// WriteHTML writes the report as one page that needs nothing else: no scripts, no
// resources of elsewhere, and a policy that forbids both.
func (r Report) WriteHTML(w io.Writer) error { return page.Execute(w, r) }
