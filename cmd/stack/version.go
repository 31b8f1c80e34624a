package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) versionCommand() *cobra.Command {
	var format string
	var short bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case short:
				fmt.Fprintln(c.out, version)
			case format == "json":
				return printJSON(c.out, map[string]string{"version": version})
			case format == "" || format == "pretty":
				fmt.Fprintln(c.out, "Stack version", version)
			default:
				return fmt.Errorf("--format %q: use pretty or json", format)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "pretty or json")
	cmd.Flags().BoolVar(&short, "short", false, "The number alone")
	return cmd
}
