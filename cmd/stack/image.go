package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/cmd/internal/ui"
)

func (c *cli) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Images on this host"}
	cmd.AddCommand(c.imageLsCommand(), c.imagePullCommand(), c.imageLoadCommand(), c.imageInspectCommand(), c.imageRmCommand())
	return cmd
}

func (c *cli) imageLsCommand() *cobra.Command {
	var quiet, noTrunc bool
	var format string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List images",
		Args:    cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			images, err := d.Images(ctx)
			if err != nil {
				return err
			}
			return c.printImages(imageRows(images, time.Now(), noTrunc), format, quiet)
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print ids only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Print ids in full")
	cmd.Flags().StringVar(&format, "format", "table", "table, json, or a Go template")
	return cmd
}

// imageRow is one name of an image, as `docker image ls --format json` has it.
type imageRow struct {
	CreatedAt    string
	CreatedSince string
	Digest       string
	ID           string
	Platform     string
	Repository   string
	Size         string
	Tag          string
}

// imageRows has one row a name, in the order of names.
func imageRows(images []api.Image, now time.Time, full bool) []imageRow {
	rows := []imageRow{}
	for _, image := range images {
		row := imageRow{
			CreatedAt:    image.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
			CreatedSince: units.HumanDuration(now.Sub(image.Created)) + " ago",
			Digest:       orDefault(image.Digest, "<none>"),
			ID:           image.ID,
			Platform:     image.Platform,
			Repository:   "<none>",
			Tag:          "<none>",
			Size:         units.HumanSizeWithPrecision(float64(image.Size), 3),
		}
		if !full {
			row.ID = truncateID(image.ID)
		}
		if len(image.Names) == 0 {
			rows = append(rows, row)
		}
		for _, name := range image.Names {
			named := row
			named.Repository, named.Tag = splitReference(name)
			named.Tag = orDefault(named.Tag, "<none>")
			rows = append(rows, named)
		}
	}
	slices.SortStableFunc(rows, func(a, b imageRow) int {
		return strings.Compare(a.Repository+":"+a.Tag, b.Repository+":"+b.Tag)
	})
	return rows
}

var imageHeadings = map[string]string{"CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "ID": "IMAGE ID"}

func (c *cli) printImages(rows []imageRow, format string, quiet bool) error {
	switch {
	case quiet:
		for i, row := range rows {
			if i == 0 || !slices.ContainsFunc(rows[:i], func(r imageRow) bool { return r.ID == row.ID }) {
				fmt.Fprintln(c.out, row.ID)
			}
		}
		return nil
	case format != "" && format != "table":
		return printFormatted(c.out, format, rows, imageHeadings)
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = []string{r.Repository, r.Tag, r.ID, r.CreatedSince, r.Size}
	}
	ui.Table(c.out, []string{"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"}, cells)
	return nil
}

func (c *cli) imagePullCommand() *cobra.Command {
	var platform string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull IMAGE...",
		Short: "Pull images",
		Args:  cobra.MinimumNArgs(1),
		RunE: c.verb(func(ctx context.Context, refs []string) error {
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			if quiet {
				c.progressMode = string(ui.Quiet)
			}
			progress := c.progress("pull")
			defer progress.Close()
			for _, ref := range refs {
				if _, err := d.PullImage(ctx, ref, platform, progress.Event); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&platform, "platform", "", "os/arch[/variant], where it is not this machine's")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Without progress")
	return cmd
}

func (c *cli) imageLoadCommand() *cobra.Command {
	var input, name string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Load images from an archive",
		Long:  "Load images from an archive: an OCI layout, what `docker save` writes, or the files of a root filesystem (which needs --name).",
		Args:  cobra.NoArgs,
		RunE: c.verb(func(ctx context.Context, _ []string) error {
			archive := c.in
			if input != "" && input != "-" {
				f, err := os.Open(input)
				if err != nil {
					return err
				}
				defer f.Close()
				archive = f
			} else if ui.IsTerminal(c.in) {
				return fmt.Errorf("give the archive with --input, or on standard input")
			}
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			progress := c.progress("load")
			defer progress.Close()
			_, err = d.LoadImage(ctx, io.NopCloser(archive), name, func(e api.Event) {
				switch {
				case e.Kind == "note":
					fmt.Fprintln(c.out, e.Text)
				case !quiet:
					progress.Event(e)
				}
			})
			return err
		}),
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "File to read")
	cmd.Flags().StringVar(&name, "name", "", "Name of an image whose archive has none")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Without progress")
	return cmd
}

func (c *cli) imageInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect IMAGE...",
		Short: "Print all that is known of images",
		Args:  cobra.MinimumNArgs(1),
		RunE: c.verb(func(ctx context.Context, refs []string) error {
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			found := []json.RawMessage{}
			for _, ref := range refs {
				image, err := d.Image(ctx, ref)
				if err != nil {
					return err
				}
				found = append(found, image)
			}
			return c.printInspected(found)
		}),
	}
}

// printInspected prints what `inspect` found: a list, indented.
func (c *cli) printInspected(found any) error {
	compact, err := json.Marshal(found)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "    "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, b.String())
	return err
}

func (c *cli) imageRmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm IMAGE...",
		Aliases: []string{"remove"},
		Short:   "Remove images",
		Args:    cobra.MinimumNArgs(1),
		RunE: c.verb(func(ctx context.Context, refs []string) error {
			d, err := c.daemon(ctx)
			if err != nil {
				return err
			}
			defer d.Close()
			return c.each(refs, func(ref string) error {
				removed, err := d.RemoveImage(ctx, ref, force)
				for _, name := range removed {
					fmt.Fprintln(c.out, name)
				}
				return err
			})
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Remove the name although containers use the image")
	return cmd
}
